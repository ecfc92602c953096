"""Metrics are those of a look at each user's list, and of numbers computed by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.common.lists import Lists
from retrieval.evaluation.ranking_metrics import (
    Placed,
    auc,
    average_precision_at,
    capped_recall_at,
    hit_rate_at,
    hits_at,
    interaction_hit_rate_at,
    interaction_ndcg_at,
    interaction_reciprocal_rank_at,
    mean_rank,
    ndcg_at,
    precision_at,
    recall_at,
    reciprocal_rank_at,
    top_k_accuracy,
)

# Two users: the first has relevant candidates in places 0, 3 and 7 of the list, the second in place 1.
RANKS = np.array([3, 0, 7, 1])
RELEVANT = Lists.from_sequences([[5, 2, 9], [4]])
PLACED = Placed(RANKS, RELEVANT)

users = st.lists(st.tuples(st.permutations(range(6)), st.lists(st.integers(0, 5), unique=True)), min_size=1)


def ranked(users):
    """Returns the ranks and the lists of the relevant candidates, from each user's whole list."""
    places = [recommended.index(row) for recommended, relevant in users for row in relevant]
    return np.array(places, np.int32), Lists.from_sequences([relevant for _, relevant in users])


def discounted(hits):
    return sum(1 / math.log2(place + 2) for place, hit in enumerate(hits) if hit)


def test_precision_divides_the_hits_by_k():
    assert precision_at(PLACED, 4).tolist() == [2 / 4, 1 / 4]


def test_recall_divides_the_hits_by_the_relevant():
    assert recall_at(PLACED, 4).tolist() == [2 / 3, 1]


def test_capped_recall_divides_by_what_a_list_of_that_length_can_hold():
    assert capped_recall_at(PLACED, 2).tolist() == [1 / 2, 1]
    assert capped_recall_at(PLACED, 8).tolist() == [1, 1]


def test_the_mean_rank_counts_places_from_one():
    assert mean_rank(PLACED).tolist() == [(4 + 1 + 8) / 3, 2]


def test_each_interaction_is_a_query_of_its_own():
    # Places 0, 3 and 3 again gain 1, 1 / log2 5 twice; place 8 gains nothing at 8.
    placed = Placed(np.array([3, 0, 8, 3]), Lists.from_sequences([[5, 2, 9, 5]]))
    assert interaction_hit_rate_at(placed, 8).tolist() == [3 / 4]
    assert interaction_reciprocal_rank_at(placed, 8).tolist() == [(1 + 1 / 4 + 1 / 4) / 4]
    np.testing.assert_allclose(interaction_ndcg_at(placed, 8), [(1 + 2 / math.log2(5)) / 4])


def test_a_candidate_in_place_k_is_no_hit():
    assert hits_at(PLACED, 1).tolist() == [1, 0]
    assert hits_at(PLACED, 2).tolist() == [1, 1]
    assert top_k_accuracy(RANKS, 3) == 2 / 4


def test_ndcg_compares_with_the_best_list_of_that_length():
    # Places 0 and 3 gain 1 and 1 / log2 5 = 0.43068; the ideal places 0, 1 and 2 gain 1 + 0.63093 + 0.5.
    np.testing.assert_allclose(ndcg_at(PLACED, 4), [1.4306765 / 2.1309298, 0.6309298], rtol=1e-6)
    # At k 2 the ideal has two hits though three candidates are relevant.
    np.testing.assert_allclose(ndcg_at(PLACED, 2), [1 / 1.6309298, 0.6309298], rtol=1e-6)


def test_a_perfect_list_has_ndcg_one():
    perfect = Lists.from_sequences([[8, 1, 4]])
    np.testing.assert_allclose([ndcg_at(Placed(np.arange(3), perfect), k)[0] for k in (1, 2, 3, 10)], 1)


def test_accuracy_weighs_every_interaction_the_same():
    assert top_k_accuracy(RANKS, 1) == 1 / 4
    assert top_k_accuracy(RANKS, 8) == 1


def test_accuracy_of_no_interactions_is_not_a_number():
    assert math.isnan(top_k_accuracy(np.zeros(0, np.int32), 5))


def test_one_hit_is_enough_for_the_hit_rate():
    assert hit_rate_at(PLACED, 1).tolist() == [1, 0]
    assert hit_rate_at(PLACED, 8).tolist() == [1, 1]


def test_the_reciprocal_rank_is_that_of_the_first_hit():
    assert reciprocal_rank_at(PLACED, 2).tolist() == [1, 1 / 2]
    assert reciprocal_rank_at(PLACED, 1).tolist() == [1, 0]


def test_average_precision_divides_by_what_a_list_of_that_length_can_hold():
    # Hits in places 1, 4 and 8: precisions 1 / 1, 2 / 4 and 3 / 8.
    np.testing.assert_allclose(average_precision_at(PLACED, 8), [(1 + 2 / 4 + 3 / 8) / 3, 1 / 2])
    np.testing.assert_allclose(average_precision_at(PLACED, 4), [(1 + 2 / 4) / 3, 1 / 2])
    np.testing.assert_allclose(average_precision_at(PLACED, 2), [1 / 2, 1 / 2])


def test_auc_is_the_share_of_the_irrelevant_that_stand_behind():
    # Before places 0, 3 and 7 stand 0, 2 and 5 of the 7 irrelevant candidates; before place 1, 1 of 9.
    np.testing.assert_allclose(auc(PLACED, np.array([10, 10])), [1 - 7 / 21, 1 - 1 / 9])


def test_equal_scores_count_half_in_the_auc():
    # Two relevant ones tie with two others, one is behind: their mean place is (0 + 1 + 2 + 3) / 4.
    both = Lists.from_sequences([[5, 6]])
    np.testing.assert_allclose(auc(Placed(np.array([1.5, 1.5]), both), np.array([5])), [(1 / 2 + 1 / 2 + 1) / 3])


def test_an_excluded_candidate_stands_behind_all_in_the_auc():
    # Of 10 candidates 4 are excluded, one of the two relevant ones among them; the other is first of the 6.
    both = Lists.from_sequences([[5, 6]])
    np.testing.assert_allclose(auc(Placed(np.array([10.0, 0.0]), both), np.array([6])), [1 / 2])


def test_auc_is_not_defined_where_all_or_nothing_is_relevant():
    relevant = Lists.from_sequences([[], [4, 5]])
    np.testing.assert_array_equal(auc(Placed(np.array([0, 1]), relevant), np.array([7, 2])), [np.nan, np.nan])


def test_a_user_without_relevant_candidates_has_precision_zero_and_nothing_else():
    relevant = Lists.from_sequences([[], [4], []])
    placed = Placed(np.array([0]), relevant)
    assert precision_at(placed, 2).tolist() == [0, 1 / 2, 0]
    of_interactions = (interaction_hit_rate_at, interaction_reciprocal_rank_at, interaction_ndcg_at)
    of_queries = (hit_rate_at, recall_at, capped_recall_at, ndcg_at, reciprocal_rank_at, average_precision_at)
    for metric in (*of_interactions, *of_queries):
        np.testing.assert_array_equal(metric(placed, 2), [np.nan, 1, np.nan])
    np.testing.assert_array_equal(mean_rank(placed), [np.nan, 1, np.nan])


def test_without_queries_there_are_no_values():
    nothing = Placed(np.zeros(0, np.int32), Lists.empty(0))
    for metric in (precision_at, hit_rate_at, ndcg_at, average_precision_at, interaction_ndcg_at):
        assert metric(nothing, 5).shape == (0,)
    assert mean_rank(nothing).shape == auc(nothing, np.zeros(0, np.int64)).shape == (0,)


def test_as_many_ranks_as_relevant_candidates_are_wanted():
    with pytest.raises(ValueError, match="give a rank per relevant candidate: 3 != 4"):
        Placed(RANKS[:3], RELEVANT)


def of_one(hits, num_wanted, k):
    """Returns the metrics of a query that has `hits` among its first k, in the order of `AT_K`."""
    if not num_wanted:
        return [0] + [math.nan] * 9
    first = 1 / (hits.index(True) + 1) if any(hits) else 0
    precisions = [sum(hits[: place + 1]) / (place + 1) for place, hit in enumerate(hits) if hit]
    best = min(k, num_wanted)
    of_query = [any(hits), sum(hits) / num_wanted, sum(hits) / best, discounted(hits) / discounted([True] * best)]
    of_query += [first, sum(precisions) / best]
    reciprocals = sum(1 / (place + 1) for place, hit in enumerate(hits) if hit)
    return [sum(hits) / k, *of_query, *(total / num_wanted for total in (sum(hits), reciprocals, discounted(hits)))]


OF_QUERIES = (hit_rate_at, recall_at, capped_recall_at, ndcg_at, reciprocal_rank_at, average_precision_at)
OF_INTERACTIONS = (interaction_hit_rate_at, interaction_reciprocal_rank_at, interaction_ndcg_at)
AT_K = (precision_at, *OF_QUERIES, *OF_INTERACTIONS)


@pytest.mark.parametrize("k", [1, 2, 6, 9])
@settings(max_examples=60, deadline=None)
@given(users)
def test_metrics_agree_with_a_look_at_each_list(k, users):
    ranks, relevant = ranked(users)
    placed = Placed(ranks, relevant)
    expected = [of_one([row in wanted for row in recommended[:k]], len(wanted), k) for recommended, wanted in users]
    np.testing.assert_allclose(np.transpose([metric(placed, k) for metric in AT_K]), expected, rtol=1e-12)
    found = [row in recommended[:k] for recommended, wanted in users for row in wanted]
    if found:
        assert top_k_accuracy(ranks, k) == pytest.approx(sum(found) / len(found))
        of_query = np.nan_to_num(interaction_hit_rate_at(placed, k))
        assert np.average(of_query, weights=placed.num_relevant) == pytest.approx(sum(found) / len(found))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 12).map(lambda half: half / 2)), min_size=1), st.sampled_from([np.int32, float])
)
def test_places_of_each_query_are_sorted_whatever_ties(places, dtype):
    ranks = np.array([rank for of_query in places for rank in of_query]).astype(dtype)
    placed = Placed(ranks, Lists.from_sequences([[0] * len(of_query) for of_query in places]))
    np.testing.assert_array_equal(placed.by_place, ranks[np.lexsort((ranks, placed.owners))])
    expected = [np.mean(np.array(of_query).astype(dtype)) + 1 if of_query else math.nan for of_query in places]
    np.testing.assert_allclose(mean_rank(placed), expected)


def test_interactions_counted_apart_are_queries_of_one_relevant_candidate():
    rng = np.random.default_rng(0)
    relevant = Lists.from_pairs(np.sort(rng.integers(0, 9, 50)), rng.integers(0, 30, 50), 9)
    placed = Placed(rng.integers(0, 30, 50).astype(np.int32), relevant)
    apart = Placed(placed.ranks, Lists.from_pairs(np.arange(50), relevant.rows, 50))
    for k in (1, 7, 30):
        for of_interactions, of_query in zip(OF_INTERACTIONS, (hit_rate_at, reciprocal_rank_at, ndcg_at), strict=True):
            got = np.average(of_interactions(placed, k), weights=placed.num_relevant)
            assert got == pytest.approx(np.mean(of_query(apart, k)), rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(users)
def test_auc_agrees_with_a_comparison_of_all_pairs(users):
    ranks, relevant = ranked(users)
    expected = []
    for recommended, wanted in users:
        others = [place for place, row in enumerate(recommended) if row not in wanted]
        pairs = [recommended.index(row) < other for row in wanted for other in others]
        expected.append(sum(pairs) / len(pairs) if pairs else math.nan)
    np.testing.assert_allclose(auc(Placed(ranks, relevant), np.full(len(users), 6)), expected, atol=1e-12)
