"""Metrics are those of a look at each user's list, and of numbers computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.lists import Lists
from retrieval.metrics import (
    auc,
    average_precision_at,
    hit_rate_at,
    hits_at,
    ndcg_at,
    precision_at,
    recall_at,
    reciprocal_rank_at,
    top_k_accuracy,
)

# Two users: the first has relevant candidates in places 0, 3 and 7 of the list, the second in place 1.
RANKS = np.array([3, 0, 7, 1])
RELEVANT = Lists.from_sequences([[5, 2, 9], [4]])

users = st.lists(st.tuples(st.permutations(range(6)), st.lists(st.integers(0, 5), unique=True)), min_size=1)


def ranked(users):
    """Returns the ranks and the lists of the relevant candidates, from each user's whole list."""
    places = [recommended.index(row) for recommended, relevant in users for row in relevant]
    return np.array(places, np.int32), Lists.from_sequences([relevant for _, relevant in users])


def discounted(hits):
    return sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)


def test_precision_divides_the_hits_by_k():
    assert precision_at(RANKS, RELEVANT, 4).tolist() == [2 / 4, 1 / 4]


def test_recall_divides_the_hits_by_the_relevant():
    assert recall_at(RANKS, RELEVANT, 4).tolist() == [2 / 3, 1]


def test_a_candidate_in_place_k_is_no_hit():
    assert hits_at(RANKS, RELEVANT, 1).tolist() == [1, 0]
    assert hits_at(RANKS, RELEVANT, 2).tolist() == [1, 1]
    assert top_k_accuracy(RANKS, 3) == 2 / 4


def test_ndcg_compares_with_the_best_list_of_that_length():
    # Places 0 and 3 gain 1 and 1 / log2 5 = 0.43068; the ideal places 0, 1 and 2 gain 1 + 0.63093 + 0.5.
    np.testing.assert_allclose(ndcg_at(RANKS, RELEVANT, 4), [1.4306765 / 2.1309298, 0.6309298], rtol=1e-6)
    # At k 2 the ideal has two hits though three candidates are relevant.
    np.testing.assert_allclose(ndcg_at(RANKS, RELEVANT, 2), [1 / 1.6309298, 0.6309298], rtol=1e-6)


def test_a_perfect_list_has_ndcg_one():
    perfect = Lists.from_sequences([[8, 1, 4]])
    np.testing.assert_allclose([ndcg_at(np.arange(3), perfect, k)[0] for k in (1, 2, 3, 10)], 1)


def test_accuracy_weighs_every_interaction_the_same():
    assert top_k_accuracy(RANKS, 1) == 1 / 4
    assert top_k_accuracy(RANKS, 8) == 1


def test_accuracy_of_no_interactions_is_not_a_number():
    assert math.isnan(top_k_accuracy(np.zeros(0, np.int32), 5))


def test_one_hit_is_enough_for_the_hit_rate():
    assert hit_rate_at(RANKS, RELEVANT, 1).tolist() == [1, 0]
    assert hit_rate_at(RANKS, RELEVANT, 8).tolist() == [1, 1]


def test_the_reciprocal_rank_is_that_of_the_first_hit():
    assert reciprocal_rank_at(RANKS, RELEVANT, 2).tolist() == [1, 1 / 2]
    assert reciprocal_rank_at(RANKS, RELEVANT, 1).tolist() == [1, 0]


def test_average_precision_divides_by_what_a_list_of_that_length_can_hold():
    # Hits in places 1, 4 and 8: precisions 1 / 1, 2 / 4 and 3 / 8.
    np.testing.assert_allclose(average_precision_at(RANKS, RELEVANT, 8), [(1 + 2 / 4 + 3 / 8) / 3, 1 / 2])
    np.testing.assert_allclose(average_precision_at(RANKS, RELEVANT, 4), [(1 + 2 / 4) / 3, 1 / 2])
    np.testing.assert_allclose(average_precision_at(RANKS, RELEVANT, 2), [1 / 2, 1 / 2])


def test_auc_is_the_share_of_the_irrelevant_that_stand_behind():
    # Before places 0, 3 and 7 stand 0, 2 and 5 of the 7 irrelevant candidates; before place 1, 1 of 9.
    np.testing.assert_allclose(auc(RANKS, RELEVANT, np.array([10, 10])), [1 - 7 / 21, 1 - 1 / 9])


def test_equal_scores_count_half_in_the_auc():
    # Two relevant ones tie with two others, one is behind: their mean place is (0 + 1 + 2 + 3) / 4.
    both = Lists.from_sequences([[5, 6]])
    np.testing.assert_allclose(auc(np.array([1.5, 1.5]), both, np.array([5])), [(1 / 2 + 1 / 2 + 1) / 3])


def test_an_excluded_candidate_stands_behind_all_in_the_auc():
    # Of 10 candidates 4 are excluded, one of the two relevant ones among them; the other is first of the 6.
    both = Lists.from_sequences([[5, 6]])
    np.testing.assert_allclose(auc(np.array([10.0, 0.0]), both, np.array([6])), [1 / 2])


def test_auc_is_not_defined_where_all_or_nothing_is_relevant():
    relevant = Lists.from_sequences([[], [4, 5]])
    np.testing.assert_array_equal(auc(np.array([0, 1]), relevant, np.array([7, 2])), [np.nan, np.nan])


def test_a_user_without_relevant_candidates_has_precision_zero_and_nothing_else():
    relevant = Lists.from_sequences([[], [4], []])
    ranks = np.array([0])
    assert precision_at(ranks, relevant, 2).tolist() == [0, 1 / 2, 0]
    for metric in (hit_rate_at, recall_at, ndcg_at, reciprocal_rank_at, average_precision_at):
        np.testing.assert_array_equal(metric(ranks, relevant, 2), [np.nan, 1, np.nan])


@pytest.mark.parametrize("k", [1, 2, 6, 9])
@settings(max_examples=60, deadline=None)
@given(users)
def test_metrics_agree_with_a_look_at_each_list(k, users):
    ranks, relevant = ranked(users)
    expected = []
    for recommended, wanted in users:
        hits = [row in wanted for row in recommended[:k]]
        if not wanted:
            expected.append((math.nan, 0, math.nan, math.nan, math.nan, math.nan))
            continue
        first = 1 / (hits.index(True) + 1) if any(hits) else 0
        precisions = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
        best = min(k, len(wanted))
        ideal = discounted([True] * best)
        expected.append(
            (any(hits), sum(hits) / k, sum(hits) / len(wanted), discounted(hits) / ideal, first, sum(precisions) / best)
        )
    metrics = (hit_rate_at, precision_at, recall_at, ndcg_at, reciprocal_rank_at, average_precision_at)
    np.testing.assert_allclose(np.transpose([metric(ranks, relevant, k) for metric in metrics]), expected, rtol=1e-12)
    found = [row in recommended[:k] for recommended, wanted in users for row in wanted]
    if found:
        assert top_k_accuracy(ranks, k) == pytest.approx(sum(found) / len(found))


@settings(max_examples=60, deadline=None)
@given(users)
def test_auc_agrees_with_a_comparison_of_all_pairs(users):
    ranks, relevant = ranked(users)
    expected = []
    for recommended, wanted in users:
        others = [place for place, row in enumerate(recommended) if row not in wanted]
        pairs = [recommended.index(row) < other for row in wanted for other in others]
        expected.append(sum(pairs) / len(pairs) if pairs else math.nan)
    np.testing.assert_allclose(auc(ranks, relevant, np.full(len(users), 6)), expected, atol=1e-12)
