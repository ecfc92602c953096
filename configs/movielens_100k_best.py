"""MovieLens 100K, random split: the best that validation chose, with an output of 193 dimensions.

    python -m experiments.run --config=configs/movielens_100k_best.py --workdir=runs/movielens_100k_best

Embeddings of 128 dimensions, trained by the softmax over the whole corpus; examples weigh more the higher their rating;
an average of the weights is kept; and the score of a linear item-item model (EASE), cut to 64 dimensions, is added.

Random split with seed 42, train excluded, mean and standard deviation over training seeds 0 to 4: precision@10
0.3833 +- 0.0018, nDCG@10 0.4597 +- 0.0014, recall@20 0.3656 +- 0.0012, recall@10 0.2473 +- 0.0019. Training takes about
40 seconds a seed on two busy cores, search included.

    python -m experiments.seeds --config=configs/movielens_100k_best.py --workdir=runs/best_seeds --seeds=5

Weight of ratings, dimension, penalty and its power, average and rank were chosen on validation parts of train: three
random ones, of which one is that of the config. Dimension, the weight of ratings and the average matter most.

Variant `32`: 32 dimensions from ids alone, no linear model: precision@10 0.3786 +- 0.0023, nDCG@10 0.4508 +- 0.0025,
recall@20 0.3630, over the same seeds.

    python -m experiments.run --config=configs/movielens_100k_best.py:32 --workdir=runs/movielens_100k_best_32
"""

from retrieval.config import Config, Feature


def get_config(variant: str = "") -> Config:
    """Returns the experiment, or its variant "32"."""
    if variant not in ("", "32"):
        raise ValueError(f"variant must be '32' or none, got {variant!r}")
    config = Config(name="movielens-100k-best")
    config.data.dataset = "movielens-100k"
    config.loss.name = "full_softmax"
    config.loss.rating_weight = 0.5
    config.train.batch_size = 4096
    config.train.average = 0.986
    if variant == "32":
        config.name += ":32"
        config.loss.candidate_l2_power = 0.75
        return config
    config.model.embedding_dimension = 128
    config.model.linear_rank = 64
    config.model.query.features = (
        Feature(column="id"),
        Feature(column="age", kind="buckets", size=7),
        Feature(column="gender"),
        Feature(column="occupation"),
    )
    config.model.candidate.features = (
        Feature(column="id"),
        Feature(column="release_year", kind="buckets", size=14),
        Feature(column="genres", kind="bag", combiner="sum"),
    )
    config.loss.embedding_l2 = 0.0
    ids = {f"{side}/features/id": 0.068 for side in ("query_tower", "candidate_tower")}
    config.optimizer.table_l2 = {"": 0.204} | ids  # an id has room to differ from others with its attributes
    return config
