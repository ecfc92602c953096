"""Intervals of the means of metrics: the one place that applies the kind that the registry names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from retrieval.evaluation.bootstrap import bootstrap_intervals
from retrieval.evaluation.bounded_mean import bounded_intervals
from retrieval.evaluation.registry import BOOTSTRAP, BOUNDED, INFLUENCE, interval_kind


def mean_intervals(
    names: Sequence[str],
    values: Float64[np.ndarray, "Q M"],
    weights: Float64[np.ndarray, "Q M"] | None = None,
    *,
    resamples: int,
    level: float,
    seed: int = 0,
) -> tuple[Float64[np.ndarray, "M"], Float64[np.ndarray, "M"]]:
    """Returns the lower and the upper ends of the interval of each metric's mean, of the kind of `registry.INTERVALS`.

    Args:
      names: name of each metric, as in files.
      values: value of each query and metric, NaN where the metric is not defined for the query.
      weights: weight of each value; none: 1 each.
      resamples: resamples of the queries.
      level: share of the data sets whose interval shall hold the true mean.
      seed: of the resamples.

    Raises:
      ValueError: a value is not finite, or outside of [0, 1] although the metric is bounded.
    """
    kinds = np.array([interval_kind(name) for name in names], str)
    low, high = np.full(len(names), np.nan), np.full(len(names), np.nan)
    for kind in (BOUNDED, BOOTSTRAP, INFLUENCE):
        if not (of_kind := kinds == kind).any():
            continue
        function = bounded_intervals if kind == BOUNDED else bootstrap_intervals
        chosen = None if weights is None else weights[:, of_kind]
        ends = function(values[:, of_kind], chosen, resamples=resamples, level=level, seed=seed)
        low[of_kind], high[of_kind] = np.clip(ends, 0, 1) if kind == INFLUENCE else ends
    return low, high
