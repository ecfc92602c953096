"""MovieLens 100K, embeddings of 32 dimensions from ids alone; right by default.

    python -m experiments.run --config=configs/movielens_100k.py --workdir=runs/movielens_100k

Random split with seed 42, train excluded, mean and standard deviation over training seeds 0, 1, 2: precision@10
0.3711 +- 0.0010, recall@10 0.2402 +- 0.0013, nDCG@10 0.4451 +- 0.0013; most popular 0.1908, 0.1163, 0.2171.

    python -m experiments.seeds --config=configs/movielens_100k.py --workdir=runs/movielens_100k_seeds --seeds=3

Variant `temporal`: the last 20,000 ratings by time are the test part, and 192 of its 301 users are unknown
in train; seed 0: precision@10 0.336, recall@10 0.079; most popular 0.327, 0.071.

    python -m experiments.run --config=configs/movielens_100k.py:temporal --workdir=runs/movielens_100k_temporal

Batch size and penalty were chosen on the validation part, 20 % of train.
"""

from retrieval.config import Config


def get_config(variant: str = "") -> Config:
    """Returns the experiment, or its variant "temporal"."""
    config = Config(name="movielens-100k")
    config.data.dataset = "movielens-100k"
    if variant == "temporal":
        config.name += ":temporal"
        config.data.split.strategy = "temporal"
    elif variant:
        raise ValueError(f"variant must be 'temporal' or none, got {variant!r}")
    return config
