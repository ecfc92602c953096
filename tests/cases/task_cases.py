"""Interactions with ratings that a model can learn, for the tests of heads."""

import numpy as np

from retrieval.config.schema import Config, Task
from retrieval.data.interactions import Interactions, Table

NUM_QUERIES, NUM_CANDIDATES = 30, 24
RATING = Task("rating", hidden_sizes=(4,))
LIKES = Task("likes", "binary", threshold=4.0, weight=0.5)


def rated(seed=0, per_query=8):
    """Returns interactions of queries with candidates of their half, rated by both and by chance."""
    rng = np.random.default_rng(seed)
    mild, good = rng.normal(size=NUM_QUERIES), rng.normal(size=NUM_CANDIDATES)
    queries = np.repeat(np.arange(NUM_QUERIES), per_query)
    candidates = np.concatenate(
        [2 * rng.permutation(NUM_CANDIDATES // 2)[:per_query] + q % 2 for q in range(NUM_QUERIES)]
    )
    stars = 3.5 + mild[queries] + good[candidates] + 0.3 * rng.normal(size=len(queries))
    order = rng.permutation(len(queries))
    ratings = np.clip(np.rint(stars), 1, 5).astype(np.float32)[order]
    times = np.arange(len(order)) * 60
    return Interactions(queries[order], candidates[order], ratings, times)


def corpus():
    return Table(np.arange(NUM_CANDIDATES))


def small_config(*tasks, **settings):
    config = Config(tasks=tasks)
    config.model.embedding_dimension = 4
    config.model.initial_scale = 0.3
    config.train.batch_size, config.train.epochs = 64, 3
    for name, value in settings.items():
        setattr(config.train, name, value)
    return config


def write_events(path, events):
    """Writes interactions as a CSV file with the columns that `file_config` names."""
    columns = zip(events.query_ids, events.candidate_ids, events.ratings, events.timestamps, strict=True)
    lines = ["user_id,item_id,stars,time", *(f"{q},{c},{r:g},{t}" for q, c, r, t in columns)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def file_config(folder, *tasks):
    """Returns a config of such a file, trained a little."""
    write_events(folder / "events.csv", rated(per_query=12))
    config = small_config(*tasks)
    config.data.interactions = str(folder / "events.csv")
    config.data.columns.rating, config.data.columns.timestamp = "stars", "time"
    config.evaluate.ks = config.evaluate.top_k_accuracies = (5, 10)
    return config
