"""Intervals of means hold the truth for rare hits, few queries and skewed values, and each metric has its own kind."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from retrieval.evaluation.bootstrap import bootstrap_intervals
from retrieval.evaluation.bounded_mean import bounded_intervals
from retrieval.evaluation.intervals import mean_intervals
from retrieval.evaluation.list_metrics import coverage_at, gini_at
from retrieval.evaluation.registry import INTERVALS, METRICS, interval_kind

NAN = float("nan")
SETS = 2000  # simulated data sets, one a column; the standard error of a share of 0.95 is 0.005
LEAST = 0.95 - 0.015  # three of them


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))))
def test_an_interval_of_zeros_and_ones_is_that_of_clopper_and_pearson(counts):
    num, hits = counts
    low, high = bounded_intervals((np.arange(num) < hits)[:, None].astype(float), resamples=10)
    exact = (
        special.betaincinv(hits, num - hits + 1, 0.025) if hits else 0.0,
        special.betaincinv(hits + 1, num - hits, 0.975) if hits < num else 1.0,
    )
    assert (low[0], high[0]) == pytest.approx(exact, abs=1e-9)


def test_values_beside_zero_and_one_have_the_interval_that_those_of_zero_and_one_approach():
    near = np.tile((np.arange(40) < 9) * (1 - 1e-9), (2, 1)).T  # drawn, as values are not 0 and 1
    low, high = bounded_intervals(near, resamples=20_000)
    exact = special.betaincinv(9, 32, 0.025), special.betaincinv(10, 31, 0.975)
    assert (low[0], high[0]) == pytest.approx(exact, abs=0.006)


def test_no_hit_of_300_leaves_room_for_rare_ones():
    low, high = bounded_intervals(np.zeros((300, 1)))
    assert low[0] == 0 and high[0] == pytest.approx(1 - 0.025 ** (1 / 300))
    assert bootstrap_intervals(np.zeros((300, 1)))[1][0] == 0  # what a bootstrap says of it


def test_undefined_queries_and_weights_of_zero_are_left_out():
    values = np.array([[1.0, 1.0, NAN], [0.0, 0.0, NAN], [NAN, 0.5, NAN]])
    weights = np.array([[2.0, 2.0, 1.0], [2.0, 2.0, 1.0], [2.0, 0.0, 1.0]])
    low, high = bounded_intervals(values, weights)
    assert low[0] == low[1] and high[0] == high[1] and np.isnan([low[2], high[2]]).all()
    equal = np.array(bounded_intervals(values[:, :1]))[:, 0]  # weights that are all the same change nothing
    np.testing.assert_allclose((low[0], high[0]), equal, rtol=1e-12)


def test_an_interval_does_not_depend_on_where_blocks_begin(monkeypatch):
    values = np.random.default_rng(0).random((20, 3))
    whole = bounded_intervals(values, resamples=100)
    monkeypatch.setattr("retrieval.evaluation.bounded_mean.BLOCK_VALUES", 20 * 7)
    np.testing.assert_allclose(bounded_intervals(values, resamples=100), whole, rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "keywords", "message"),
    [
        ([[1.5]], {}, r"values must be in \[0, 1\], got 1.5"),
        ([[-0.5]], {}, r"values must be in \[0, 1\], got -0.5"),
        ([[1.0]], {"level": 0.0}, r"level must be in \(0, 1\), got 0.0"),
        ([[1.0]], {"resamples": 0}, "resamples must be positive, got 0"),
    ],
)
def test_values_and_settings_without_a_meaning_are_refused(values, keywords, message):
    with pytest.raises(ValueError, match=message):
        bounded_intervals(np.array(values), **keywords)


def test_every_metric_names_the_kind_of_its_interval():
    assert {metric.interval for metric in METRICS} == set(INTERVALS)
    for name in (
        "excluding_seen/hit_rate_at_5",
        "a/interactions/mrr_at_5",
        "x/auc",
        "liked/auc",
        "cold_candidates/map_at_1",
    ):
        assert interval_kind(name) == "bounded"
    assert interval_kind("factorized_top_k/top_5_categorical_accuracy") == "bounded"
    for name in ("x/mean_rank", "x/novelty_at_5", "rating/mse", "liked/log_loss", "x/popularity_lift_at_5"):
        assert interval_kind(name) == "bootstrap"
    assert interval_kind("x/coverage_at_5") == interval_kind("x/gini_at_5") == "influence"


def test_each_column_has_the_interval_of_its_kind():
    values = np.random.default_rng(0).random((12, 3))
    names = ["x/mean_rank", "x/ndcg_at_5", "x/coverage_at_5"]
    values[:, 2] = values[:, 2] * 8 - 3
    settings = {"resamples": 300, "level": 0.9, "seed": 2}
    ends = np.array(mean_intervals(names, values, **settings))
    np.testing.assert_allclose(ends[:, 0], np.ravel(bootstrap_intervals(values[:, :1], **settings)))
    np.testing.assert_allclose(ends[:, 1], np.ravel(bounded_intervals(values[:, 1:2], **settings)))
    np.testing.assert_allclose(ends[:, 2], np.clip(np.ravel(bootstrap_intervals(values[:, 2:], **settings)), 0, 1))
    assert np.isnan(np.array(mean_intervals(names, values[:3], **settings))).all(axis=0).tolist() == [True, False, True]


def held(values, truth):
    low, high = bounded_intervals(values, resamples=1000)
    return np.mean((low <= truth) & (truth <= high)), np.mean(high - low)


@pytest.mark.slow
@pytest.mark.parametrize("num_queries", [3, 5, 10, 30, 100, 300, 1000])
@pytest.mark.parametrize("rate", [0.01, 0.03, 0.1, 0.3, 0.5])
def test_the_interval_of_a_hit_rate_holds_for_any_rate_and_number(num_queries, rate):
    values = np.random.default_rng(1).binomial(1, rate, (num_queries, SETS)).astype(float)
    assert held(values, rate)[0] >= LEAST


@pytest.mark.slow
@pytest.mark.parametrize("num_queries", [3, 5, 10, 30, 100, 300, 1000])
@pytest.mark.parametrize("hit_rate", [0.02, 0.2, 1.0])
def test_the_interval_of_an_ndcg_holds_for_skewed_values(num_queries, hit_rate):
    rng, shape = np.random.default_rng(1), (num_queries, SETS)
    values = rng.binomial(1, hit_rate, shape) * rng.beta(0.6, 1.4, shape)
    share, width = held(values, 0.3 * hit_rate)
    assert share >= LEAST
    if num_queries == 1000 and hit_rate == 1:
        assert width < 1.1 * 3.92 * values.std() / np.sqrt(num_queries)  # the price for many queries


def draw_lists(rng, num_queries, num_candidates, k, skew):
    keys = rng.gumbel(size=(num_queries, num_candidates)) - skew * np.log(np.arange(1, num_candidates + 1))
    return np.argpartition(-keys, k - 1, axis=1)[:, :k].astype(np.int32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_queries", "num_candidates", "k", "skew"),
    [(100, 200, 1, 1.0), (300, 500, 1, 0.5), (300, 1000, 10, 1.0), (100, 2000, 20, 0.7), (1000, 500, 10, 1.5)],
)
def test_the_intervals_of_coverage_and_gini_are_as_wide_as_other_samples_spread(num_queries, num_candidates, k, skew):
    rng = np.random.default_rng(1)
    sets = [draw_lists(rng, num_queries, num_candidates, k, skew) for _ in range(300)]
    for metric, name, most in ((coverage_at, "coverage", 1.12), (gini_at, "gini", 1.35)):
        values = np.stack([metric(lists, num_candidates, k) for lists in sets], axis=1)
        means = np.nanmean(values, axis=0)
        low, high = np.concatenate(
            [
                mean_intervals([f"x/{name}_at_1"] * 50, part, resamples=500, level=0.95)
                for part in np.split(values, 6, 1)
            ],
            1,
        )
        assert 0.88 < np.nanmean(high - low) / (3.92 * means.std()) < most
        assert np.mean((low <= means.mean()) & (means.mean() <= high)) > 0.9  # 0.92 to 0.95, but for chance
