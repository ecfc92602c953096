"""MovieLens 100K."""

from retrieval.config import Config


def get_config(variant: str = "") -> Config:
    config = Config(name="movielens-100k")
    config.data.dataset = "movielens-100k"
    return config
