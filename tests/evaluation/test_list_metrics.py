"""Metrics of lists are those of a look at each list and, for what is no mean, of leaving out each query in turn."""

import collections
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.common.lists import Lists
from retrieval.evaluation.list_metrics import (
    average_popularity_at,
    coverage_at,
    diversity_at,
    gini_at,
    novelty_at,
    popularity_lift_at,
)

N, WIDTH = 7, 4
NUM_HAVING = np.array([9, 5, 5, 2, 1, 0, 7])
lists = st.lists(st.permutations(range(N)).flatmap(lambda p: st.integers(0, WIDTH).map(lambda m: p[:m])), min_size=1)
ks = st.integers(1, WIDTH)


def padded(lists, width=WIDTH):
    return np.array([[*of_query, *[-1] * (width - len(of_query))] for of_query in lists], np.int32).reshape(-1, width)


def coverage(lists):
    return len({row for of_query in lists for row in of_query}) / N


def gini(lists):
    """Returns the mean difference of all pairs of counts over twice their mean."""
    counts = [sum(row in of_query for of_query in lists) for row in range(N)]
    differences = sum(abs(a - b) for a, b in itertools.product(counts, counts)) / N**2
    return differences / (2 * sum(counts) / N) if sum(counts) else 0.0


def jackknife(figure, lists):
    """Returns the influence values of `figure` by computing it again without each list."""
    without = [figure(lists[:q] + lists[q + 1 :]) for q in range(len(lists))]
    return [figure(lists) + (len(lists) - 1) * (np.mean(without) - value) for value in without]


@pytest.mark.parametrize(("metric", "figure"), [(gini_at, gini)])
@settings(max_examples=150, deadline=None)
@given(lists, ks)
def test_influence_values_are_those_of_computing_again_without_each_query(metric, figure, lists, k):
    got, first = metric(padded(lists), N, k), [of_query[:k] for of_query in lists]
    np.testing.assert_allclose(got, jackknife(figure, first), atol=1e-12)
    np.testing.assert_allclose(np.mean(got), figure(first), atol=1e-12)


@settings(max_examples=150, deadline=None)
@given(lists, ks)
def test_the_spread_of_the_coverage_is_the_alternating_series_over_sets_of_queries(lists, k):
    first = [of_query[:k] for of_query in lists]
    got, jackknifed = coverage_at(padded(lists), N, k), np.array(jackknife(coverage, first))
    np.testing.assert_allclose(np.nanmean(got), coverage(first), atol=1e-12)
    holders = collections.Counter(frozenset(q for q, of_query in enumerate(first) if c in of_query) for c in range(N))
    own = np.array([holders[frozenset([q])] for q in range(len(first))])
    several = sum((-1) ** (len(s) + 1) * size**2 for s, size in holders.items() if len(s) >= 2)
    variance = np.sum((own - own.mean()) ** 2) + min(several, 0)
    if np.ptp(own) == 0:
        np.testing.assert_allclose(got, jackknifed, atol=1e-12)
    elif variance <= 0:
        assert np.isnan(got[1:]).all()
    else:
        scale = np.sqrt(variance / np.sum((own - own.mean()) ** 2))
        np.testing.assert_allclose(got, np.mean(jackknifed) + scale * (jackknifed - np.mean(jackknifed)), atol=1e-9)


@pytest.mark.parametrize(
    ("lists", "expected"),
    [
        ([[0, 1, 2, 3], [4, 5, 6]], (1, 0)),  # each once
        ([[2]] * 5, (1 / 7, 6 / 7)),  # always the same
        ([[]] * 3, (0, 0)),
        ([[0, 1]], (2 / 7, 5 / 7)),  # a single query
    ],
)
def test_coverage_and_gini_at_their_ends(lists, expected):
    got = [np.mean(metric(padded(lists), N, WIDTH)) for metric in (coverage_at, gini_at)]
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_spread_of_the_influence_values_is_that_of_queries_drawn_anew():
    rng = np.random.default_rng(0)
    positions = np.argsort(rng.random((400, 50)) * rng.random(50) ** 2, axis=1)[:, :3].astype(np.int32)
    drawn = [np.mean(gini_at(positions[rng.integers(0, 400, 400)], 50, 3)) for _ in range(300)]
    assert np.std(gini_at(positions, 50, 3)) / 20 == pytest.approx(np.std(drawn), rel=0.2)


def cosine(a, b):
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / norms if norms else 0.0


def mean(values):
    return sum(values) / len(values) if values else math.nan


@settings(max_examples=100, deadline=None)
@given(lists, ks, st.lists(st.lists(st.integers(-2, 2), min_size=3, max_size=3), min_size=N, max_size=N))
def test_means_agree_with_a_look_at_each_list(lists, k, vectors):
    positions, first = padded(lists), [of_query[:k] for of_query in lists]
    information = [math.log2(9 / max(count, 1)) for count in NUM_HAVING]
    expected = [mean([information[row] for row in of_query]) for of_query in first]
    np.testing.assert_allclose(novelty_at(positions, NUM_HAVING, 9, k), expected, atol=1e-12)
    popularity = [mean([NUM_HAVING[row] for row in of_query]) for of_query in first]
    np.testing.assert_allclose(average_popularity_at(positions, NUM_HAVING, k), popularity, atol=1e-12)
    pairs = [itertools.combinations([vectors[row] for row in of_query], 2) for of_query in first]
    expected = [mean([1 - cosine(a, b) for a, b in of_query]) for of_query in pairs]
    np.testing.assert_allclose(diversity_at(positions, np.array(vectors, np.float32), k), expected, atol=1e-12)
    history = Lists.from_sequences([of_query[1:] for of_query in lists])
    before = [mean([NUM_HAVING[row] for row in of_query[1:]]) for of_query in lists]
    expected = [(p - h) / h if h else math.nan for p, h in zip(popularity, before, strict=True)]
    np.testing.assert_allclose(popularity_lift_at(positions, NUM_HAVING, history, k), expected, atol=1e-12)


def test_what_train_does_not_know_is_as_novel_as_what_one_query_has():
    assert novelty_at(np.array([[4], [5]], np.int32), NUM_HAVING, 16, 1).tolist() == [4, 4]


def test_one_candidate_has_no_pairs_and_twins_no_diversity():
    vectors = np.array([[3.0, 4.0], [6.0, 8.0], [-3.0, -4.0]])
    got = diversity_at(padded([[0], [], [0, 1], [1, 2]], 2), vectors, 2)
    np.testing.assert_allclose(got, [np.nan, np.nan, 0, 2], atol=1e-12)


def test_diversity_in_blocks_is_that_of_each_query_alone():
    rng = np.random.default_rng(0)
    positions = np.argsort(rng.random((300, 60)), axis=1)[:, :40].astype(np.int32)
    vectors = rng.standard_normal((60, 100)).astype(np.float32)  # 32 queries a block
    alone = [diversity_at(positions[q : q + 1], vectors, 40)[0] for q in range(300)]
    np.testing.assert_allclose(diversity_at(positions, vectors, 40), alone, rtol=1e-12)


METRICS = {
    "coverage": lambda positions, k: coverage_at(positions, N, k),
    "gini": lambda positions, k: gini_at(positions, N, k),
    "novelty": lambda positions, k: novelty_at(positions, NUM_HAVING, 9, k),
    "diversity": lambda positions, k: diversity_at(positions, np.eye(N), k),
    "popularity": lambda positions, k: average_popularity_at(positions, NUM_HAVING, k),
    "lift": lambda positions, k: popularity_lift_at(positions, NUM_HAVING, Lists.empty(len(positions)), k),
}


@pytest.mark.parametrize("name", METRICS)
def test_without_queries_there_are_no_values(name):
    assert METRICS[name](padded([]), 2).shape == (0,)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("k", [0, 5])
def test_lists_shorter_than_k_columns_are_refused(name, k):
    with pytest.raises(ValueError, match=rf"k must be in \[1, 4\], the length of the lists, got {k}"):
        METRICS[name](padded([[0, 1]]), k)
