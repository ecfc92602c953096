"""Measures the bootstrap of all metrics at once, beside a loop over the resamples."""

from __future__ import annotations

import numpy as np

from retrieval.evaluation.bootstrap import bootstrap_intervals, expanded_tail

from .measure import Measurement, seconds, share, times_better

SECONDS = 1.0  # bound of 2000 resamples of MovieLens-1M


def bootstrap(
    num_queries: int = 6040, num_metrics: int = 150, resamples: int = 2000, looped: int = 50
) -> list[Measurement]:
    """Measures the intervals of all metrics of an evaluation, over as many users as MovieLens-1M has.

    The time of the loop is extrapolated from that of `looped` resamples.
    """
    rng = np.random.default_rng(0)
    values = rng.random((num_queries, num_metrics))
    values[rng.random(num_queries) < 0.1, : num_metrics // 2] = np.nan  # as for users without relevant items
    library, loop = seconds(
        lambda: bootstrap_intervals(values, resamples=resamples), lambda: _loop(values, looped), rounds=3
    )
    loop *= resamples / looped
    return [
        times_better("uncertainty/bootstrap", library, loop, "s", "a mean of the drawn rows for each resample", 10),
        share("uncertainty/bootstrap/seconds", library, SECONDS, "s", "a fixed limit", 1),
    ]


def _loop(values, resamples):
    """Draws rows and takes their means, a resample at a time."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(0, len(values), len(values)) for _ in range(resamples))
    means = np.array([np.nanmean(values[rows], axis=0) for rows in drawn])
    tail = expanded_tail(np.array([len(values)]), 0.95)[0]
    return np.quantile(means, [tail, 1 - tail], axis=0)
