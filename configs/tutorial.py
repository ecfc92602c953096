"""The retrieval tutorial of TensorFlow Recommenders, as published."""

from retrieval.config import Config


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
    config.loss.embedding_l2 = 0.0
    config.train.batch_size = 8192
    config.train.epochs = 10
    config.train.evaluate_every = 0
    return config
