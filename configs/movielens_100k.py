"""MovieLens 100K."""

from retrieval.config import Config


def get_config(variant: str = "") -> Config:
    config = Config(name="movielens-100k")
    config.data.dataset = "movielens-100k"
    if variant == "temporal":
        config.name += ":temporal"
        config.data.split.strategy = "temporal"
    elif variant:
        raise ValueError(f"variant must be 'temporal' or none, got {variant!r}")
    return config
