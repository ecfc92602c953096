"""Synthetic."""

from retrieval.config import Config


def get_config(variant: str = "") -> Config:
    config = Config(name="synthetic")
    config.data.dataset = "synthetic"
    return config
