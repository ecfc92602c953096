"""Paired tests: as many false alarms as they say, no fewer discoveries than there are, and the plain loops' numbers."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from retrieval.evaluation.bootstrap import bootstrap_intervals, resample_counts
from retrieval.evaluation.comparison import average, compare, holm, permutation_p_values, seed_summary, summarize_seeds
from retrieval.evaluation.per_query import PerQuery

NAN = float("nan")
SETS = 1000  # simulated pairs of systems, one a metric; the standard error of a rate of 0.05 is 0.007
METRICS = [f"set {i}" for i in range(SETS)]


def system(columns, weights=None, test_set="abc"):
    columns = np.asarray(columns, np.float64)
    weights = {} if weights is None else {name: weights for name in METRICS[: columns.shape[1]]}
    values = {name: columns[:, i] for i, name in enumerate(METRICS[: columns.shape[1]])}
    return PerQuery(np.arange(len(columns)), values, weights, test_set)


def pair(shift, num_queries=100, sets=SETS):
    """Returns two systems whose values go together, as those of users who are easy or hard to serve."""
    rng = np.random.default_rng(0)
    ease = rng.beta(0.5, 1.5, (num_queries, sets))
    first, second = (ease + rng.normal(0, 0.05, ease.shape) for _ in range(2))
    return system(first), system(second + shift)


def p_values(comparisons):
    return np.array([[c.bootstrap_p, c.permutation_p] for c in comparisons.values()]).T


def test_without_a_difference_p_values_are_uniform():
    for p in p_values(compare(*pair(0), METRICS, resamples=1000)):
        for level in (0.05, 0.2, 0.5, 0.8):
            assert np.mean(p <= level) == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / SETS))


def test_differences_far_smaller_than_the_spread_of_users_are_found():
    # The values of a system spread by 0.25, differences by 0.07: a shift of 0.02 is 2.8 standard errors.
    comparisons = compare(*pair(0.02), METRICS, resamples=1000)
    for p in p_values(comparisons):
        assert np.mean(p < 0.05) == pytest.approx(0.8, abs=0.06)  # Phi(2.83 - 1.96) = 0.81
    assert np.mean([c.difference for c in comparisons.values()]) == pytest.approx(0.02, abs=0.001)
    held = [c.low <= 0.02 <= c.high for c in comparisons.values()]
    assert np.mean(held) == pytest.approx(0.95, abs=0.03)


def test_a_comparison_is_that_of_loops_over_resamples():
    rng = np.random.default_rng(5)
    first, second = rng.random((2, 16, 3))
    first[:3, 0], second[2:5, 0] = NAN, NAN
    weights = rng.integers(1, 5, 16).astype(float)
    found = compare(system(first, weights), system(second, weights), METRICS[:3], resamples=200, seed=4)
    (counts,) = resample_counts(16, 200, seed=4)
    for i, name in enumerate(METRICS[:3]):
        both = ~np.isnan(first[:, i]) & ~np.isnan(second[:, i])
        d, w = (second - first)[:, i], weights
        observed = np.sum(d[both] * w[both]) / np.sum(w[both])
        resampled = [np.sum((c * d * w)[both]) / np.sum((c * w)[both]) for c in counts]
        extreme = sum(abs(value - observed) >= abs(observed) for value in resampled)
        comparison = found[name]
        assert comparison.difference == pytest.approx(observed)
        assert comparison.bootstrap_p == (extreme + 1) / 201
        assert comparison.num_queries == both.sum()
        ends = bootstrap_intervals(np.where(both, d, NAN)[:, None], w[:, None], resamples=200, seed=4)
        assert (comparison.low, comparison.high) == pytest.approx((ends[0][0], ends[1][0]))


@given(arrays.arrays(np.float64, st.integers(2, 6), elements=st.sampled_from([-1.0, -0.1, 0.0, 0.1, 0.3, NAN])))
def test_random_swaps_come_to_the_share_of_all_swaps(differences):
    known = np.nan_to_num(differences)
    sums = [abs(np.dot(signs, known)) for signs in itertools.product([-1, 1], repeat=len(known))]
    exact = np.mean([value >= abs(known.sum()) - 1e-9 for value in sums])
    drawn = permutation_p_values(differences[:, None], resamples=2000, seed=0)[0]
    assert drawn == pytest.approx(exact, abs=0.06)


def test_swaps_weigh_what_the_mean_weighs():
    # 0.3 + 0.3 - 0.9 is the least that signs can make of them; of 0.3 + 0.3 - 0.1 half of the signs make less.
    differences, weights = np.array([[0.3], [0.3], [-0.1]]), np.array([[1.0], [1.0], [9.0]])
    assert permutation_p_values(differences, weights, resamples=1000, seed=0)[0] == 1
    assert permutation_p_values(differences, resamples=4000, seed=0)[0] == pytest.approx(0.5, abs=0.04)


def test_where_blocks_begin_changes_no_swap(monkeypatch):
    differences = np.random.default_rng(0).normal(0.2, 1, (30, 4))
    whole = permutation_p_values(differences, resamples=500, seed=1)
    monkeypatch.setattr("retrieval.evaluation.comparison.BLOCK_VALUES", 30 * 64)
    np.testing.assert_array_equal(permutation_p_values(differences, resamples=500, seed=1), whole)


def test_a_system_beside_itself_does_not_differ():
    one = pair(0, sets=3)[0]
    for comparison in compare(one, one, METRICS[:3], resamples=50).values():
        assert comparison.difference == 0
        assert np.isnan([comparison.low, comparison.high]).all()  # queries without a difference tell no spread
        assert (comparison.bootstrap_p, comparison.permutation_p) == (1, 1)


def test_nine_queries_that_differ_have_no_interval_and_ten_do():
    for num, has_interval in ((9, False), (10, True)):
        found = compare(system(np.zeros((50, 1))), system((np.arange(50) < num)[:, None] / 2.0), METRICS[:1])
        assert np.isfinite([found[METRICS[0]].low, found[METRICS[0]].high]).all() == has_interval


def test_differences_that_differ_by_rounding_are_ties_in_tenths():
    # Sums of the same signs in tenths and in whole numbers: 0.48 of them would be extreme where rounding breaks ties.
    tenths = np.array([-4.0, -6, -4, -2, 6, -2, 6, -2])[:, None]
    whole = permutation_p_values(tenths, resamples=200, seed=0)
    assert permutation_p_values(tenths / 10, resamples=200, seed=0) == whole


def test_a_coverage_without_a_spread_is_compared_by_its_mean():
    name = "excluding_seen/coverage_at_1"
    ids = np.arange(3)
    first = PerQuery(ids, {name: np.array([0.5, NAN, NAN])}, {}, "one")
    second = PerQuery(ids, {name: np.array([0.9, 0.6, 0.3])}, {}, "one")
    found = compare(first, second, [name], resamples=20)[name]
    assert found.difference == pytest.approx(0.1)
    assert np.isnan([found.low, found.high, found.bootstrap_p, found.permutation_p]).all()


def test_a_p_value_is_never_zero():
    better = compare(system(np.zeros((50, 1))), system(np.ones((50, 1))), METRICS[:1], resamples=99)[METRICS[0]]
    assert (better.bootstrap_p, better.permutation_p) == (0.01, 0.01)


@pytest.mark.parametrize(("second", "difference", "num"), [([1.0, NAN], 0.5, 1), ([NAN, NAN], NAN, 0)])
def test_fewer_than_two_queries_are_no_evidence(second, difference, num):
    found = compare(system([[0.5], [0.5]]), system(np.array(second)[:, None]), METRICS[:1], resamples=20)[METRICS[0]]
    np.testing.assert_equal(found.difference, difference)
    assert np.isnan([found.low, found.high, found.bootstrap_p, found.permutation_p]).all()
    assert found.num_queries == num


def test_what_was_asked_something_else_is_refused():
    one, other = system([[0.5]], test_set="aaa"), system([[0.5]], test_set="bbb")
    with pytest.raises(ValueError, match=r"asked different things \(test sets aaa and bbb\)"):
        compare(one, other, METRICS[:1])
    with pytest.raises(ValueError, match="the other has no 'set 1'; it has set 0"):
        compare(system([[0.5, 0.5]]), system([[0.5]]), METRICS[:2])
    with pytest.raises(ValueError, match="other queries or weights"):
        compare(system([[0.5]]), system([[0.5], [0.25]]), METRICS[:1])
    with pytest.raises(ValueError, match="other queries or weights"):
        compare(system([[0.5]]), system([[0.5]], weights=np.array([2.0])), METRICS[:1])


def test_holm_corrects_as_by_hand():
    # 4 * 0.005, 3 * 0.01, max(0.03, 2 * 0.012), and 0.9 once.
    assert holm(np.array([0.012, 0.9, 0.005, 0.01])).tolist() == pytest.approx([0.03, 0.9, 0.02, 0.03])
    assert holm(np.array([0.6, 0.7])).tolist() == [1, 1]
    assert holm(np.array([])).tolist() == []
    np.testing.assert_array_equal(holm(np.array([NAN, 0.04])), [NAN, 0.04])


@given(st.lists(st.floats(0, 1), max_size=8), st.sampled_from([0.01, 0.05, 0.3]))
def test_holm_rejects_what_the_step_down_procedure_rejects(values, level):
    rejected, left = set(), sorted(range(len(values)), key=values.__getitem__)
    while left and values[left[0]] * len(left) <= level:
        rejected.add(left.pop(0))
    assert set(np.flatnonzero(holm(np.array(values, np.float64)) <= level)) == rejected


def test_the_average_of_seeds_is_that_of_each_query():
    seeds = {"seed_0": system([[0.0], [1.0], [NAN]]), "seed_1": system([[1.0], [1.0], [0.5]])}
    np.testing.assert_array_equal(average(seeds).values[METRICS[0]], [0.5, 1.0, NAN])
    with pytest.raises(ValueError, match="seed_0 and seed_2 were asked different things"):
        average(seeds | {"seed_2": system([[0.0], [0.0], [0.0]], test_set="other")})


def test_seeds_and_queries_spread_apart():
    # Seeds at 0.3 and 0.5 whatever the queries; queries at 0.2, 0.4 and 0.6 whatever the seeds.
    queries = np.array([[0.2], [0.4], [0.6]])
    of_seeds = summarize_seeds({"seed_0": system(queries - 0.1), "seed_1": system(queries + 0.1)})[METRICS[0]]
    assert of_seeds.mean == pytest.approx(0.4)
    assert of_seeds.sd == pytest.approx(0.2 / np.sqrt(2))
    assert of_seeds.query_error == pytest.approx(0.2 / np.sqrt(3))


def test_the_error_of_a_weighted_mean_is_that_of_the_bootstrap():
    rng = np.random.default_rng(0)
    weights = rng.geometric(0.2, 400).astype(float)
    one = system(rng.random((400, 1)), weights)
    low, high = one.intervals()[METRICS[0]]
    assert summarize_seeds({"a": one, "b": one})[METRICS[0]].query_error == pytest.approx((high - low) / 3.92, rel=0.06)


def test_one_seed_and_one_query_have_no_spread():
    one = summarize_seeds({"seed_0": system([[0.5]])})[METRICS[0]]
    assert one.mean == 0.5 and np.isnan(one.sd) and np.isnan(one.query_error)
    assert np.isnan(seed_summary([1.0]).sd)
