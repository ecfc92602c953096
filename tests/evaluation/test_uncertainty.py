"""Intervals are those of a loop over the resamples, and hold the truth as often as they say."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from retrieval.evaluation import bootstrap
from retrieval.evaluation.bootstrap import (
    bootstrap_deviations,
    bootstrap_intervals,
    expanded_tail,
    resample_counts,
    weighted_means,
)

NAN = float("nan")


@st.composite
def tables(draw, min_queries=0):
    """Returns values and weights, or None; columns share weights, or patterns of NaN, or have none in common."""
    shape = draw(st.tuples(st.integers(min_queries, 14), st.integers(0, 5)))
    cells = st.sampled_from([0.0, 0.1, 0.5, 1.0, NAN]) | st.floats(-1e3, 1e3)
    values = draw(arrays.arrays(np.float64, shape, elements=cells))
    weights = st.none() | arrays.arrays(np.float64, shape, elements=st.sampled_from([0.0, 1.0, 2.0, 7.5]))
    return values, draw(weights)


def mean_of(drawn, weights):
    pairs = [(value, weight) for value, weight in zip(drawn, weights, strict=True) if not np.isnan(value)]
    total = sum(weight for _, weight in pairs)
    return sum(value * weight for value, weight in pairs) / total if total else NAN


def plain_means(values, weights, counts):
    """Returns the mean of each column, of each resample: what it drew, written out."""
    weights = np.ones_like(values) if weights is None else weights
    drawn = [np.repeat(np.arange(len(values)), row.astype(int)) for row in counts]
    means = [[mean_of(values[rows, j], weights[rows, j]) for j in range(values.shape[1])] for rows in drawn]
    return np.array(means).reshape(len(counts), values.shape[1])


def plain_intervals(values, weights, resamples, level, seed):
    counts = np.concatenate(list(resample_counts(len(values), resamples, seed)))
    means = plain_means(values, weights, counts)
    ends = []
    for j in range(values.shape[1]):
        counted = ~np.isnan(values[:, j]) & (True if weights is None else weights[:, j] > 0)
        tail = expanded_tail(np.array([counted.sum()]), level)[0]
        known = means[~np.isnan(means[:, j]), j]
        ends.append([NAN, NAN] if counted.sum() < 10 else np.quantile(known, [tail, 1 - tail]))
    return np.array(ends).reshape(-1, 2).T


@given(tables())
def test_means_are_those_of_the_defined(table):
    everything_once = np.ones((1, len(table[0])))
    np.testing.assert_allclose(weighted_means(*table), plain_means(*table, everything_once)[0], rtol=1e-9, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(tables(), st.integers(1, 30), st.sampled_from([0.5, 0.9, 0.95]), st.integers(0, 3))
def test_intervals_are_those_of_a_loop_over_resamples(table, resamples, level, seed):
    fast = bootstrap_intervals(*table, resamples=resamples, level=level, seed=seed)
    plain = plain_intervals(*table, resamples, level, seed)
    np.testing.assert_allclose(np.array(fast), plain, rtol=1e-9, atol=1e-9)


def test_columns_that_share_weights_and_columns_that_do_not():
    rng = np.random.default_rng(0)
    values = rng.random((40, 6))
    values[rng.random(40) < 0.3, :3] = NAN
    weights = np.repeat(rng.integers(1, 9, (40, 2)).astype(float), 3, axis=1)[:, [0, 3, 1, 4, 2, 5]]
    fast = np.array(bootstrap_intervals(values, weights, resamples=50))
    np.testing.assert_allclose(fast, plain_intervals(values, weights, 50, 0.95, 0), rtol=1e-12)


def test_where_blocks_begin_changes_nothing(monkeypatch):
    whole = np.concatenate(list(resample_counts(7, 100, seed=3)))
    monkeypatch.setattr(bootstrap, "BLOCK_VALUES", 7 * 9)
    blocks = list(resample_counts(7, 100, seed=3))
    assert [len(block) for block in blocks] == [9] * 11 + [1]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    monkeypatch.setattr(bootstrap, "BLOCK_VALUES", 1)  # more queries than a block holds: one resample at a time
    np.testing.assert_array_equal(np.concatenate(list(resample_counts(7, 100, seed=3))), whole)


def test_a_resample_draws_as_many_queries_as_there_are_and_each_alike():
    counts = np.concatenate(list(resample_counts(50, 4000, seed=0)))
    assert (counts.sum(axis=1) == 50).all()
    # A count is binomial(50, 1 / 50): mean 1, variance 0.98; the standard error of a mean is 0.016.
    np.testing.assert_allclose(counts.mean(axis=0), 1, atol=0.07)
    np.testing.assert_allclose(counts.var(), 0.98, atol=0.02)


def test_a_constant_has_an_interval_of_no_width_and_no_rounding():
    constants = np.random.default_rng(0).random(200)  # whose means are rounded
    low, high = bootstrap_intervals(np.tile(constants, (30, 1)), resamples=100)
    assert low.tolist() == high.tolist() == constants.tolist()


def test_an_interval_stays_within_the_values():
    values = np.tile(np.random.default_rng(0).random(2000), (10, 1))
    values[0] /= 2  # resamples that draw nothing else have the least mean there is, but for rounding
    low, high = bootstrap_intervals(values, resamples=100)
    assert (low >= values.min(axis=0)).all() and (high <= values.max(axis=0)).all()


def test_nine_queries_do_not_tell_their_spread_and_ten_do():
    values = np.random.default_rng(0).random((10, 3))
    values[9, 1] = values[:, 2] = NAN
    low, high = bootstrap_intervals(values, resamples=50)
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [False, True, True]
    assert np.isnan(bootstrap_intervals(values[:1], resamples=50)).all()


def test_a_weight_of_zero_is_as_good_as_undefined():
    values, weights = np.random.default_rng(0).random((11, 1)), np.arange(11.0)[:, None]
    undefined = np.where(weights > 0, values, NAN)
    assert np.isfinite(bootstrap_intervals(values, weights, resamples=50)).all()
    np.testing.assert_array_equal(
        bootstrap_intervals(values, weights, resamples=50), bootstrap_intervals(undefined, weights, resamples=50)
    )


def test_no_queries_have_no_figures():
    assert np.isnan(bootstrap_intervals(np.empty((0, 2)), resamples=3)).all()
    assert [len(ends) for ends in bootstrap_intervals(np.empty((4, 0)), resamples=3)] == [0, 0]


def test_a_difference_of_large_values_is_not_lost_to_rounding():
    values = 1e9 + np.random.default_rng(0).random((500, 1))
    deviations = bootstrap_deviations(values, resamples=500, seed=0)[1]
    assert deviations.std() == pytest.approx(np.sqrt(1 / 12 / 500), rel=0.1)


@pytest.mark.parametrize(
    ("values", "weights", "keywords", "message"),
    [
        ([[np.inf]], None, {}, "values must be finite"),
        ([[1.0]], [[-1.0]], {}, "weights must be finite and not negative, got -1.0"),
        ([[1.0]], [[NAN]], {}, "weights must be finite and not negative, got nan"),
        ([[1.0]], None, {"level": 1.0}, r"level must be in \(0, 1\), got 1.0"),
        ([[1.0]], None, {"resamples": 0}, "resamples must be positive, got 0"),
    ],
)
def test_what_makes_no_sense_is_refused(values, weights, keywords, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_intervals(np.array(values), None if weights is None else np.array(weights), **keywords)


SETS = 2000  # simulated data sets, one a column; the standard error of a coverage of 0.95 is 0.005


@pytest.mark.parametrize(
    ("num_queries", "draw", "truth"),
    [
        (300, lambda rng, shape: rng.beta(0.3, 1.2, shape), 0.2),  # skewed, as a recall
        (300, lambda rng, shape: rng.binomial(1, 0.3, shape).astype(float), 0.3),  # as a hit rate
        (10, lambda rng, shape: rng.normal(0, 1, shape), 0.0),  # a slice of few queries
    ],
)
def test_an_interval_holds_the_truth_as_often_as_it_says(num_queries, draw, truth):
    values = draw(np.random.default_rng(1), (num_queries, SETS))
    low, high = bootstrap_intervals(values, resamples=2000)
    assert np.mean((low <= truth) & (truth <= high)) == pytest.approx(0.95, abs=0.02)


def test_plain_percentiles_hold_the_truth_of_few_queries_too_rarely():
    # The reason for the expanded ones: 0.90 where 0.95 is promised.
    values = np.random.default_rng(1).normal(0, 1, (10, SETS))
    means, deviations = bootstrap_deviations(values, resamples=2000, seed=0)
    low, high = means + np.quantile(deviations, [0.025, 0.975], axis=0)
    assert np.mean((low <= 0) & (high >= 0)) < 0.92


def test_weighted_intervals_hold_the_truth():
    rng = np.random.default_rng(1)
    weights = rng.geometric(0.1, (300, SETS // 4)).astype(float)
    values = rng.binomial(weights.astype(int), 0.3) / weights  # a hit rate over interactions
    low, high = bootstrap_intervals(values, weights, resamples=1000)
    assert np.mean((low <= 0.3) & (high >= 0.3)) == pytest.approx(0.95, abs=0.035)
