"""MovieLens 1M: 6,040 users, 3,706 rated movies, 1,000,209 ratings; random 80/20 split, ids only.

    python -m experiments.run --config=configs/movielens_1m.py --workdir=runs/movielens_1m

The recipe is that of MovieLens 100K with a larger batch. It is ready to run and not tuned; no result is claimed
here. Where GroupLens is out of reach, name a local copy: --config.data.path=ml-1m.zip.
"""

from retrieval.config.schema import Config


def get_config() -> Config:
    """Returns the experiment."""
    config = Config(name="movielens-1m")
    config.data.dataset = "movielens-1m"
    config.train.batch_size = 8192
    return config
