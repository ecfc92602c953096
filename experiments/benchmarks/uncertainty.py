"""The bootstrap of all figures at once, beside a loop over the resamples."""

from __future__ import annotations

import numpy as np

from experiments.benchmarks.measure import Measurement, seconds, share, times_better
from retrieval.evaluation.bootstrap import bootstrap_intervals, expanded_tail

SECONDS = 1.0  # what 2000 resamples of MovieLens-1M may take


def bootstrap(
    num_queries: int = 6040, num_metrics: int = 150, resamples: int = 2000, looped: int = 50
) -> list[Measurement]:
    """Intervals of as many figures as an evaluation has, over the users of MovieLens-1M.

    The loop's time is that of `looped` resamples, times what is left of them.
    """
    rng = np.random.default_rng(0)
    values = rng.random((num_queries, num_metrics))
    values[rng.random(num_queries) < 0.1, : num_metrics // 2] = np.nan  # as of queries without relevant candidates
    ours, loop = seconds(
        lambda: bootstrap_intervals(values, resamples=resamples), lambda: _loop(values, looped), rounds=3
    )
    loop *= resamples / looped
    return [
        times_better("uncertainty/bootstrap", ours, loop, "s", "a mean of the drawn rows, of each resample", 10),
        share("uncertainty/bootstrap/seconds", ours, SECONDS, "s", "a fixed limit", 1),
    ]


def _loop(values, resamples):
    """Draws rows and takes their means, a resample at a time."""
    rng = np.random.default_rng(0)
    drawn = (rng.integers(0, len(values), len(values)) for _ in range(resamples))
    means = np.array([np.nanmean(values[rows], axis=0) for rows in drawn])
    tail = expanded_tail(np.array([len(values)]), 0.95)[0]
    return np.quantile(means, [tail, 1 - tail], axis=0)
