"""Bootstrap intervals of many weighted means at once: how far they would move with other users; pure NumPy.

A mean is the weighted mean of one value per query. A resample draws as many queries as there are, with replacement, so
that it is a vector of counts, and all means of all resamples are two matrix products: counts times weighted values,
and counts times weights. The second is shared by means with the same weights and the same undefined queries.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float64, Int
from scipy import special

MIN_VALUES = 10  # below it percentiles of means cannot leave the few values there are: no interval is given
BLOCK_VALUES = 1 << 22  # counts in memory at a time: 32 MiB of each array


def weighted_means(
    values: Float64[np.ndarray, "Q M"], weights: Float64[np.ndarray, "Q M"] | None = None
) -> Float64[np.ndarray, "M"]:
    """Returns the mean of each column over the queries where it is defined; NaN where it is for none.

    Args:
      values: value of each query and figure, NaN where the figure is not defined for the query.
      weights: weight of each value, 0 as good as undefined; none: 1 each.

    Raises:
      ValueError: a value is infinite, or the weight of a defined one is negative or not finite.

    >>> weighted_means(np.array([[1.0], [4.0], [np.nan]]), np.array([[2.0], [1.0], [5.0]]))
    array([2.])
    """
    values, weights = defined(values, weights)
    with np.errstate(invalid="ignore"):
        return np.einsum("qm,qm->m", values, weights) / weights.sum(0)


def bootstrap_intervals(
    values: Float64[np.ndarray, "Q M"],
    weights: Float64[np.ndarray, "Q M"] | None = None,
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[Float64[np.ndarray, "M"], Float64[np.ndarray, "M"]]:
    """Returns the lower and the upper ends of an interval of each weighted mean, by the bootstrap over queries.

    They are percentiles of the resampled means (Efron & Tibshirani 1993, ch. 13), which stay within the range of the
    metric, as the basic interval does not. Percentiles are too narrow where queries are few: they take the spread
    with divisor n, and a normal for Student's t. So they are taken farther out, where they agree with the t interval
    for normal values (Hesterberg 2015, "expanded percentile"): at 941 queries the tails are 0.0248 and not 0.025, at
    ten 0.0086. BCa corrects skewness as well, but not this, and a mean over queries is hardly skewed.

    O(resamples * Q * M) time, but as matrix products; memory of `values` four times, of resamples * M, and 64 MiB.

    Args:
      values: value of each query and figure, NaN where the figure is not defined for the query.
      weights: weight of each value, 0 as good as undefined; none: 1 each.
      resamples: resamples; those in which no query has the figure say nothing of it and are left out.
      level: share of the data sets whose interval shall hold the true mean.
      seed: of the resamples, the same for all figures.

    Returns:
      Both are NaN where a figure is defined for fewer than `MIN_VALUES` queries: of 3 normal values the interval
      would hold the mean in 75 % of cases, of 5 in 92 %. For values in [0, 1] see `bounded_mean`.

    Raises:
      ValueError: a value is infinite, the weight of a defined one negative or not finite, `level` not in (0, 1) or
        `resamples` not positive.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    means, deviations = bootstrap_deviations(values, weights, resamples=resamples, seed=seed)
    low, high = expanded_percentiles(deviations, np.sum(defined(values, weights)[1] > 0, axis=0), level)
    lowest, highest = np.nanmin(values, axis=0, initial=np.inf), np.nanmax(values, axis=0, initial=-np.inf)
    return np.maximum(means + low, lowest), np.minimum(
        means + high, highest
    )  # rounding goes no farther than the values


def expanded_percentiles(
    deviations: Float64[np.ndarray, "resamples M"], num_values: Int[np.ndarray, "M"], level: float
) -> tuple[Float64[np.ndarray, "M"], Float64[np.ndarray, "M"]]:
    """Returns the percentiles of resampled means that bound an interval, by `expanded_tail`.

    NaN below `MIN_VALUES` values.
    """
    ascending = np.sort(deviations.T, axis=1)  # NaN last
    num_resamples = np.sum(~np.isnan(ascending), axis=1)
    tail = np.where(num_values < MIN_VALUES, np.nan, expanded_tail(num_values, level))
    return _quantile(ascending, num_resamples, tail), _quantile(ascending, num_resamples, 1 - tail)


def expanded_tail(num_values: Int[np.ndarray, "M"], level: float) -> Float64[np.ndarray, "M"]:
    """Returns the share of resampled means to leave out at each end for a mean of so many values; NaN below two.

    It is Phi(-sqrt(n / (n - 1)) t), with t the quantile of Student's t with n - 1 degrees of freedom (Hesterberg 2015,
    "What Teachers Should Know About the Bootstrap").

    >>> expanded_tail(np.array([1, 10, 941, 10**9]), 0.95).round(4)
    array([   nan, 0.0086, 0.0248, 0.025 ])
    """
    num_values = np.where(num_values < 2, np.nan, num_values)
    quantile = special.stdtrit(num_values - 1, (1 + level) / 2)
    return special.ndtr(-np.sqrt(num_values / (num_values - 1)) * quantile)


def bootstrap_deviations(
    values: Float64[np.ndarray, "Q M"],
    weights: Float64[np.ndarray, "Q M"] | None = None,
    *,
    resamples: int,
    seed: int,
) -> tuple[Float64[np.ndarray, "M"], Float64[np.ndarray, "resamples M"]]:
    """Returns the weighted means, and how far those of each resample lie from them.

    NaN where no query of the resample has the figure. Arguments and errors are those of `bootstrap_intervals`.
    """
    if resamples < 1:
        raise ValueError(f"resamples must be positive, got {resamples}")
    means = weighted_means(values, weights)
    values, weights = defined(values, weights)
    weighted = (values - np.nan_to_num(means)) * weights  # from the mean, so that a constant deviates by nothing
    patterns, pattern_of = distinct_columns(weights)
    deviations = np.empty((resamples, values.shape[1]))
    start = 0
    for counts in resample_counts(len(values), resamples, seed):
        part = slice(start, start + len(counts))
        with np.errstate(invalid="ignore"):
            deviations[part] = (counts @ weighted) / (counts @ patterns)[:, pattern_of]
        start += len(counts)
    return means, deviations


def resample_counts(num_queries: int, resamples: int, seed: int) -> Iterator[Float64[np.ndarray, "block num_queries"]]:
    """Yields how often each resample draws each query, a block of resamples at a time.

    Where blocks begin does not change what is drawn.
    """
    rng = np.random.default_rng(seed)
    size = max(1, BLOCK_VALUES // max(1, num_queries))
    for start in range(0, resamples, size):
        block = min(size, resamples - start)
        counts = np.empty((block, num_queries))
        for row in counts:  # one at a time, whose counts stay in the cache
            row[:] = np.bincount(rng.integers(0, max(1, num_queries), num_queries), minlength=num_queries)
        yield counts


def defined(
    values: Float64[np.ndarray, "Q M"], weights: Float64[np.ndarray, "Q M"] | None
) -> tuple[Float64[np.ndarray, "Q M"], Float64[np.ndarray, "Q M"]]:
    """Returns values and weights with 0 for both where a value is not defined."""
    undefined = np.isnan(values)
    weights = np.where(undefined, 0.0, 1.0 if weights is None else weights)
    if not (np.all(weights >= 0) and np.all(np.isfinite(weights))):
        wrong = weights[~((weights >= 0) & np.isfinite(weights))][0]
        raise ValueError(f"weights must be finite and not negative, got {wrong}")
    values = np.where(undefined, 0.0, values)
    if not np.all(np.isfinite(values)):
        raise ValueError(f"values must be finite, or NaN where not defined, got {values[~np.isfinite(values)][0]}")
    return values, weights


def distinct_columns(
    columns: Float64[np.ndarray, "Q M"],
) -> tuple[Float64[np.ndarray, "Q P"], Int[np.ndarray, "M"]]:
    """Returns the distinct columns, and which of them each column is."""
    first: dict[bytes, int] = {}
    places, pattern_of = [], []
    for place, column in enumerate(np.ascontiguousarray(columns.T)):
        key = column.tobytes()
        if key not in first:
            first[key] = len(places)
            places.append(place)
        pattern_of.append(first[key])
    return columns[:, places], np.array(pattern_of, np.int64)


def _quantile(
    ascending: Float64[np.ndarray, "M resamples"], lengths: Int[np.ndarray, "M"], shares: Float64[np.ndarray, "M"]
) -> Float64[np.ndarray, "M"]:
    """Returns a quantile of the first values of each row, linear between two; NaN where the share is."""
    place = np.nan_to_num(shares) * np.maximum(lengths - 1, 0)
    below = place.astype(np.int64)
    above = np.minimum(below + 1, np.maximum(lengths - 1, 0))
    rows = np.arange(len(ascending))
    low, high = ascending[rows, below], ascending[rows, above]
    return np.where(np.isnan(shares), np.nan, low + (place - below) * (high - low))
