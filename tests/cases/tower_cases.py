"""A small world of events and tables that the tests of towers share, and models off their initial values."""

import jax
import numpy as np

from retrieval.config.schema import Config, Feature
from retrieval.data.interactions import Interactions, Table
from retrieval.models.binding import init
from retrieval.pipeline.recipe import prepare

NUM_QUERIES, NUM_CANDIDATES = 6, 9
CORPUS = Table(  # candidates 9 and 10 are cold: train has none of their events
    np.arange(NUM_CANDIDATES + 2),
    {
        "genres": np.array(
            ["War", "Drama|War", "", "Comedy", "War", "Drama", "Comedy|War", "Drama", "War"] + ["War", "Drama"]
        ),
        "year": np.array([1990.0, 1995, np.nan, 2000, 1990, 1980, 1999, 2001, 1970, 1990, 2001]),
    },
)
PEOPLE = Table(np.arange(NUM_QUERIES + 1), {"age": np.array([20.0, 30, 40, 50, 60, np.nan, 25])})  # 6 is new
ID = Feature("id")
GENRES, YEAR, AGE = Feature("genres", "bag"), Feature("year", "number"), Feature("age", "number")
HOUR = Feature("timestamp", "periodic", size=1, period=86400.0)


def interactions(seed=0, number=40, *, ratings=True, times=True):
    """Returns events whose times repeat, of queries 0 to 5 and candidates 0 to 8, each of them there."""
    rng = np.random.default_rng(seed)
    queries = np.concatenate([np.arange(NUM_QUERIES), rng.integers(NUM_QUERIES, size=number - NUM_QUERIES)])
    candidates = np.concatenate([np.arange(NUM_CANDIDATES), rng.integers(NUM_CANDIDATES, size=number - NUM_CANDIDATES)])
    return Interactions(
        queries,
        candidates,
        rng.integers(1, 11, number).astype(np.float32) / 2 if ratings else None,
        10**9 + 3600 * rng.integers(0, 30, number) if times else None,
    )


def config(query, candidate=(ID,), **history):
    """Returns a small config of towers with these features, and a history where `history` has settings."""
    config = Config()
    config.model.embedding_dimension = 4
    config.model.query.features, config.model.candidate.features = tuple(query), tuple(candidate)
    for name, value in ({"length": 5} | history if history else {}).items():
        setattr(config.model.history, name, value)
    config.train.batch_size = 16
    return config


def recipe(*args, train=None, **kwargs):
    return prepare(config(*args, **kwargs), interactions() if train is None else train, CORPUS, queries=PEOPLE)


def moved(model, seed=0):
    """Returns parameters off their initial values: zeros would hide what they multiply."""
    leaves, tree = jax.tree.flatten(init(model))
    rng = np.random.default_rng(seed)
    return tree.unflatten([leaf + rng.normal(0, 0.5, leaf.shape).astype(leaf.dtype) for leaf in leaves])
