"""Confidence intervals of means of values in [0, 1] that also hold for few queries and rare hits."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64
from scipy import special

from retrieval.evaluation.bootstrap import BLOCK_VALUES, defined, distinct_columns


def bounded_intervals(
    values: Float64[np.ndarray, "Q M"],
    weights: Float64[np.ndarray, "Q M"] | None = None,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Float64[np.ndarray, "M"], Float64[np.ndarray, "M"]]:
    """Returns the lower and the upper ends of an interval of each weighted mean of values in [0, 1].

    Source: Learned-Miller and Thomas 2019, "A New Confidence Interval for the Mean of a Bounded Random Variable". Each
    resample gives the queries random shares (exponential draws over their sum), and one more share to a value that was
    not seen: 0 for the lower end, 1 for the upper end. The ends are quantiles of the resampled means. So a metric that
    is 0 for all of n queries has the upper end 1 - 0.025 ** (1 / n), where a bootstrap has an interval of no width.

    For values of 0 and 1 of one weight the interval is that of Clopper and Pearson 1934, computed as such, which holds
    for any n and any rate. For
    other values the guarantee is a conjecture that no simulation has contradicted. For many queries it approaches the
    percentile bootstrap. With weights the unseen value has their mean, and the interval is approximate.

    O(resamples * Q * M) time, as two matrix products.

    Args:
      values: value of each query and metric, NaN where the metric is not defined for the query.
      weights: weight of each value, 0 as good as undefined; none: 1 each.
      resamples: random shares; too few make the ends themselves random.
      level: share of the data sets whose interval shall hold the true mean.
      seed: of the shares, the same for all metrics.

    Returns:
      Both are NaN where a metric is defined for no query.

    Raises:
      ValueError: a value is outside of [0, 1], a weight is negative or not finite, `level` is not in (0, 1) or
        `resamples` is not positive.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    if resamples < 1:
        raise ValueError(f"resamples must be positive, got {resamples}")
    values, weights = defined(values, weights)
    if np.any(outside := (values < 0) | (values > 1)):
        raise ValueError(f"values must be in [0, 1], got {values[outside][0]}")
    patterns, pattern_of = distinct_columns(weights)
    weighted, num_values = values * weights, np.sum(weights > 0, axis=0)
    unseen_weights = weights.sum(axis=0) / np.maximum(num_values, 1)
    lows, highs = np.empty((resamples, values.shape[1])), np.empty((resamples, values.shape[1]))
    rng = np.random.default_rng(seed)
    size = max(1, BLOCK_VALUES // max(1, len(values)))
    for start in range(0, resamples, size):
        block = slice(start, min(start + size, resamples))
        shares = rng.standard_exponential((block.stop - start, len(values) + 1))
        sums, totals = shares[:, 1:] @ weighted, (shares[:, 1:] @ patterns)[:, pattern_of]
        unseen = shares[:, :1] * unseen_weights
        with np.errstate(invalid="ignore"):
            lows[block], highs[block] = sums / (totals + unseen), (sums + unseen) / (totals + unseen)
    tail = (1 - level) / 2
    low, high = np.quantile(lows, tail, axis=0), np.quantile(highs, 1 - tail, axis=0)
    same_weight = np.all((weights == 0) | (weights == weights.max(axis=0, initial=0)), axis=0)
    binary = np.all((values == 0) | (values == 1) | (weights == 0), axis=0) & same_weight & (num_values > 0)
    low[binary], high[binary] = _clopper_pearson(np.sum(weighted > 0, axis=0)[binary], num_values[binary], tail)
    return np.where(num_values > 0, np.maximum(low, 0), np.nan), np.where(num_values > 0, np.minimum(high, 1), np.nan)


def _clopper_pearson(
    hits: Int64[np.ndarray, "M"], num_values: Int64[np.ndarray, "M"], tail: float
) -> tuple[Float64[np.ndarray, "M"], Float64[np.ndarray, "M"]]:
    """Returns the exact interval of binomial rates: from 0 where nothing is a hit, to 1 where everything is."""
    misses = num_values - hits
    low = np.where(hits > 0, special.betaincinv(np.maximum(hits, 1), misses + 1, tail), 0.0)
    high = np.where(misses > 0, special.betaincinv(hits + 1, np.maximum(misses, 1), 1 - tail), 1.0)
    return low, high
