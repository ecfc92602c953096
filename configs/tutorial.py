"""The retrieval tutorial of TensorFlow Recommenders, as published: the in-batch softmax without corrections.

    python -m experiments.run --config=configs/tutorial.py --workdir=runs/tutorial

Random split with seed 42, train excluded, mean and standard deviation over training seeds 0, 1, 2: precision@10
0.0679 +- 0.0025, recall@10 0.0566 +- 0.0026, top-100 accuracy 0.1719 +- 0.0031. The published run has 0.0667, 0.0545
and 0.1666. As published, the vocabulary holds the ids of the test part too.

    python -m experiments.seeds --config=configs/tutorial.py --workdir=runs/tutorial_seeds --seeds=3
"""

from retrieval.config.schema import Config


def get_config() -> Config:
    """Returns the published recipe."""
    config = Config(name="tutorial")
    config.data.dataset = "movielens-100k"
    config.data.split.validation_fraction = 0.0
    config.data.vocabulary = "all"
    config.model.initial_scale = 32**-0.5
    config.model.popularity_prior = False
    config.loss.log_q = False
    config.loss.remove_accidental_hits = False
    config.regularization.embedding_l2 = 0.0
    config.train.batch_size = 8192
    config.train.epochs = 10
    config.train.evaluate_every = 0
    return config
