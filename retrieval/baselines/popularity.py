"""Baselines that look at no history: most popular, popular of late, random."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Shaped

from retrieval.baselines.base import Scorer, Training
from retrieval.common.errors import DataError
from retrieval.common.lists import Lists

SECONDS_A_DAY = 86_400


def most_popular(
    counts: Shaped[np.ndarray, "N"], num_queries: int
) -> tuple[Float32[np.ndarray, "Q 1"], Float32[np.ndarray, "N 1"]]:
    """Returns query and candidate embeddings whose dot products are the candidates' counts in train."""
    return np.ones((num_queries, 1), np.float32), np.asarray(counts, np.float32)[:, None]


def overall(training: Training) -> Scorer:
    """Ranks candidates by how many queries have them in train."""
    return by_counts(training.counts)


def recent(training: Training, *, days: float) -> Scorer:
    """Ranks candidates by their interactions in the last `days` of train; equal ones by popularity.

    Raises:
      ValueError: the interactions have no timestamps.
    """
    if training.timestamps is None:
        raise DataError("recent popularity needs timestamps, and the interactions have none", needed="timestamps")
    recent = training.timestamps > training.timestamps.max(initial=0) - days * SECONDS_A_DAY
    counts = np.bincount(training.positions[recent], minlength=training.num_candidates)
    return by_counts(counts + training.counts / (training.counts.max(initial=0) + 1))


def random(training: Training, *, seed: int = 0) -> Scorer:
    """Ranks candidates at random, in another order for each history."""

    def scores(histories: Lists) -> Float32[np.ndarray, "q N"]:
        drawn = [
            np.random.default_rng([seed, *histories[query].tolist()]).random(training.num_candidates, np.float32)
            for query in range(len(histories))
        ]
        return np.array(drawn, np.float32).reshape(len(histories), training.num_candidates)

    return scores


def by_counts(counts: Shaped[np.ndarray, "N"]) -> Scorer:
    """Returns a scorer that gives every query the same scores."""
    scores = counts.astype(np.float32)
    return lambda histories: np.broadcast_to(scores, (len(histories), len(scores)))
