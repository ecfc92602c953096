"""Paired tests of two systems over the same queries, and summaries of trainings that differ by their seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float64

from retrieval.evaluation.bootstrap import (
    BLOCK_VALUES,
    MIN_VALUES,
    bootstrap_deviations,
    expanded_percentiles,
    weighted_means,
)
from retrieval.evaluation.per_query import PerQuery
from retrieval.evaluation.registry import INFLUENCE, interval_kind

ROUNDING = 1e-12  # of a sum of differences, relative to that of their sizes: sums this close are ties


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The difference of a metric between a system and the reference, over the queries where both have it.

    Attributes:
      difference: metric of the system minus metric of the reference; NaN where no query has both.
      low: lower end of its paired bootstrap interval; NaN as `high` where fewer than ten queries differ, as then no
        interval holds.
      high: upper end.
      bootstrap_p: two-sided p-value of the paired bootstrap; NaN below two queries.
      permutation_p: two-sided p-value of the randomisation test; NaN below two queries.
      num_queries: queries that have both.
    """

    difference: float
    low: float
    high: float
    bootstrap_p: float
    permutation_p: float
    num_queries: int


@dataclasses.dataclass(frozen=True)
class SeedSummary:
    """A metric over several trainings that differ by their seed alone.

    The two spreads answer two questions and are not added: `sd` says how far another seed would move the metric on
    these queries, `query_error` how far other queries would move the mean over these seeds.

    Attributes:
      mean: mean over the seeds.
      sd: standard deviation over the seeds, with divisor n - 1; NaN of one seed.
      query_error: standard error of the mean from the queries: the spread of their means over the seeds, over the
        square root of their number; NaN below two queries, or where the values of each query are not known.
    """

    mean: float
    sd: float
    query_error: float


def compare(
    reference: PerQuery,
    other: PerQuery,
    metrics: Sequence[str],
    *,
    resamples: int = 10_000,
    level: float = 0.95,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Compares two systems query by query; one `Comparison` a metric, O(resamples * Q * M) time in matrix products.

    - The interval is that of `bootstrap.bootstrap_intervals`, of the differences; none where fewer than ten differ.
    - The bootstrap's p-value is the share of resamples whose mean difference lies as far from the observed one as that
      lies from 0 (the shift method: Efron & Tibshirani 1993, ch. 16; Smucker, Allan & Carterette 2007, "A Comparison
      of Statistical Significance Tests for Information Retrieval Evaluation").
    - The randomisation test's is the share of random swaps of the two systems, query by query, whose mean difference
      is as large (Fisher 1935; Smucker et al. 2007; Sakai 2018, "Laboratory Experiments in Information Retrieval").
      It needs no large sample: prefer it below a hundred queries, where the bootstrap's is somewhat too small.

    Of n resamples, r of them as extreme, both are (r + 1) / (n + 1): never 0 (Davison & Hinkley 1997, eq. 4.11).
    Many comparisons need a correction: `holm`.

    Args:
      reference: values of the system that the other is measured by.
      other: values of the other system.
      metrics: names of the metrics to compare.
      resamples: of the bootstrap, and swaps of the randomisation test.
      level: of the intervals.
      seed: of the resamples and of the swaps.

    Raises:
      ValueError: the systems were asked different things, or one lacks a metric.
    """
    check_comparable({"the reference": reference, "the other": other}, metrics)
    reference_values, weights = reference.columns(metrics)
    differences = other.columns(metrics)[0] - reference_values
    counted = ~np.isnan(differences) & (True if weights is None else weights > 0)
    num_queries = counted.sum(axis=0)
    means, deviations = bootstrap_deviations(differences, weights, resamples=resamples, seed=seed)
    for i, name in enumerate(metrics):  # influence values are defined for one query alone where no spread is known
        if interval_kind(name) == INFLUENCE and num_queries[i] < 2:
            means[i] = np.nanmean(other.values[name]) - np.nanmean(reference.values[name])
    low, high = (means + end for end in expanded_percentiles(deviations, num_queries, level))
    is_few = np.sum(counted & (differences != 0), axis=0) < MIN_VALUES
    low, high = np.where(is_few, np.nan, low), np.where(is_few, np.nan, high)
    extreme = np.sum(np.abs(deviations) >= np.abs(means), axis=0)
    p_values = [
        np.where(num_queries < 2, np.nan, p)
        for p in (
            (extreme + 1) / (resamples + 1),
            permutation_p_values(differences, weights, resamples=resamples, seed=seed),
        )
    ]
    columns = zip(*(column.tolist() for column in (means, low, high, *p_values, num_queries)), strict=True)
    return {name: Comparison(*column) for name, column in zip(metrics, columns, strict=True)}


def permutation_p_values(
    differences: Float64[np.ndarray, "Q M"],
    weights: Float64[np.ndarray, "Q M"] | None = None,
    *,
    resamples: int,
    seed: int,
) -> Float64[np.ndarray, "M"]:
    """Returns the two-sided p-value of each weighted mean difference, under random signs of the differences.

    Whether the two systems of a query are swapped is the same for all metrics. Sums that differ by rounding alone are
    ties, which count as extreme.
    """
    weighted = np.nan_to_num(differences * (1.0 if weights is None else weights))
    rng = np.random.default_rng(seed)
    least = np.abs(weighted.sum(axis=0)) - ROUNDING * np.abs(weighted).sum(axis=0)
    extreme = np.zeros(weighted.shape[1])
    size = max(1, BLOCK_VALUES // max(1, len(weighted)))
    for start in range(0, resamples, size):
        shape = (min(size, resamples - start), len(weighted))
        signs = 1.0 - 2.0 * rng.integers(0, 2, shape, np.int8)
        extreme += np.sum(np.abs(signs @ weighted) >= least, axis=0)
    return (extreme + 1) / (resamples + 1)


def holm(p_values: Float64[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Returns p-values corrected for being n tests, so that any false alarm is as rare as the level says.

    The i-th smallest is multiplied by n + 1 - i, and none is less than a smaller one's or more than 1 (Holm 1979).
    NaN is no test, and stays.

    >>> holm(np.array([0.01, 0.04, 0.03, np.nan])).round(3)
    array([0.03, 0.06, 0.06,  nan])
    """
    order = np.argsort(p_values, stable=True)  # NaN last
    num_tests = np.sum(~np.isnan(p_values))
    factors = num_tests - np.arange(len(p_values))
    corrected = np.empty_like(p_values)
    corrected[order] = np.minimum(1, np.maximum.accumulate(factors * p_values[order]))
    return corrected


def average(seeds: Mapping[str, PerQuery]) -> PerQuery:
    """Returns the mean over several trainings of each query's values; not defined where one is not.

    Args:
      seeds: values of each training, by a name for messages.

    Raises:
      ValueError: the trainings were asked different things, or have different metrics.
    """
    first = next(iter(seeds.values()))
    check_comparable(seeds, list(first.values))
    values = {name: np.mean([one.values[name] for one in seeds.values()], axis=0) for name in first.values}
    return PerQuery(first.query_ids, values, first.weights, first.test_set)


def summarize_seeds(seeds: Mapping[str, PerQuery]) -> dict[str, SeedSummary]:
    """Summarizes each metric over several trainings; arguments and errors are those of `average`.

    Of a weighted mean m of n queries, with weights w and values v, the error is
    sqrt(n / (n - 1) * sum w^2 (v - m)^2) / sum w: that of a ratio (Cochran 1977, eq. 2.46), v's mean being one of w v.
    """
    mean = average(seeds)
    all_means = [one.means() for one in seeds.values()]
    errors = _query_errors(*mean.columns(list(mean.values)))
    return {
        name: seed_summary([means[name] for means in all_means], float(errors[i])) for i, name in enumerate(mean.values)
    }


def seed_summary(figures: Sequence[float], query_error: float = float("nan")) -> SeedSummary:
    """Summarizes the means of one metric over several trainings.

    >>> seed_summary([0.25, 0.5, 0.75])
    SeedSummary(mean=0.5, sd=0.25, query_error=nan)
    """
    sd = float(np.std(figures, ddof=1)) if len(figures) > 1 else float("nan")
    return SeedSummary(float(np.mean(figures)), sd, query_error)


def check_comparable(systems: Mapping[str, PerQuery], metrics: Sequence[str]) -> None:
    """Checks that systems were asked the same and have the metrics.

    Args:
      systems: values of each system, by a name for messages.
      metrics: names of the metrics.

    Raises:
      ValueError: another test set, other queries or weights, or no such metric; names the two systems.
    """
    (first, expected), *others = systems.items()
    for name, system in systems.items():
        if missing := [metric for metric in metrics if metric not in system.values]:
            raise ValueError(f"{name} has no {missing[0]!r}; it has {', '.join(system.values)}")
    for name, system in others:
        if system.test_set != expected.test_set:
            raise ValueError(
                f"{first} and {name} were asked different things (test sets {expected.test_set[:12]} and "
                f"{system.test_set[:12]}): evaluate both on the same data, with the same split and the same corpus"
            )
        if not _same_queries(expected, system, metrics):
            raise ValueError(f"{first} and {name} have other queries or weights, of one test set; evaluate both again")


def _same_queries(a: PerQuery, b: PerQuery, metrics: Sequence[str]) -> bool:
    """Tells whether ids and weights are the same."""
    pairs = [(a.query_ids, b.query_ids)]
    pairs += [(a.weights.get(name, 1.0), b.weights.get(name, 1.0)) for name in metrics]
    return all(np.array_equal(first, second) for first, second in pairs)


def _query_errors(
    values: Float64[np.ndarray, "Q M"], weights: Float64[np.ndarray, "Q M"] | None
) -> Float64[np.ndarray, "M"]:
    """Returns the standard error of each weighted mean; NaN below two queries."""
    weights = np.where(np.isnan(values), 0.0, 1.0 if weights is None else weights)
    deviations = np.nan_to_num(values - weighted_means(values, weights)) * weights
    num_queries = np.sum(weights > 0, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        correction = np.where(num_queries > 1, num_queries / (num_queries - 1), np.nan)
        return np.sqrt(correction * np.sum(deviations**2, axis=0)) / weights.sum(axis=0)
