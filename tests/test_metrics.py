"""Metrics are those of a look at each user's list, and of numbers computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.lists import Lists
from retrieval.metrics import hits_at, ndcg_at, precision_at, recall_at, top_k_accuracy

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


def test_a_user_without_relevant_candidates_has_precision_zero_and_no_recall():
    relevant = Lists.from_sequences([[], [4], []])
    ranks = np.array([0])
    assert precision_at(ranks, relevant, 2).tolist() == [0, 1 / 2, 0]
    for metric in (recall_at, ndcg_at):
        np.testing.assert_array_equal(metric(ranks, relevant, 2), [np.nan, 1, np.nan])


@pytest.mark.parametrize("k", [1, 2, 6, 9])
@settings(max_examples=60, deadline=None)
@given(users)
def test_metrics_agree_with_a_look_at_each_list(k, users):
    ranks, relevant = ranked(users)
    expected = []
    for recommended, wanted in users:
        hits = [row in wanted for row in recommended[:k]]
        ideal = discounted([True] * min(k, len(wanted)))
        recall = sum(hits) / len(wanted) if wanted else math.nan
        expected.append((sum(hits) / k, recall, discounted(hits) / ideal if wanted else math.nan))
    got = [metric(ranks, relevant, k) for metric in (precision_at, recall_at, ndcg_at)]
    np.testing.assert_allclose(np.transpose(got), expected, rtol=1e-12)
    found = [row in recommended[:k] for recommended, wanted in users for row in wanted]
    if found:
        assert top_k_accuracy(ranks, k) == pytest.approx(sum(found) / len(found))
