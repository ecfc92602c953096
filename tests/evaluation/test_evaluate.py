"""Evaluation of embeddings against the whole corpus, on numbers computed by hand."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from retrieval.baselines import most_popular
from retrieval.common.lists import Lists
from retrieval.data.encoding import Targets
from retrieval.evaluation.measure import evaluate

CANDIDATES = np.eye(4, dtype=np.float32)  # the queries' embeddings are then their scores
SCORES = np.array([[4, 3, 2, 1], [1, 2, 3, 4], [1, 4, 2, 3]], np.float32)
RELEVANT = [[1], [0, 2], [1, 3]]  # in places 1; 3, 1; 0, 1, or with the seen taken out 0; 2, 0; 0, 1
SEEN = [[0], [3], []]


def targets(relevant, seen=None):
    rows = np.arange(1, len(relevant) + 1, dtype=np.int32)
    seen = None if seen is None else Lists.from_sequences(seen)
    return Targets(rows.astype(np.int64), rows, Lists.from_sequences(relevant), seen)


def test_metrics_of_three_users_are_those_computed_by_hand():
    got = evaluate(SCORES, CANDIDATES, targets(RELEVANT, SEEN), ks=(1, 2), top_k_accuracies=(1, 2, 4))
    second = 1 / math.log2(3)  # what a hit in the second place gains
    both = 1 + second
    expected = {
        "factorized_top_k/top_1_categorical_accuracy": 1 / 5,
        "factorized_top_k/top_2_categorical_accuracy": 4 / 5,
        "factorized_top_k/top_4_categorical_accuracy": 1,
        "including_seen/precision_at_1": (0 + 0 + 1) / 3,
        "including_seen/precision_at_2": (1 / 2 + 1 / 2 + 1) / 3,
        "including_seen/recall_at_1": (0 + 0 + 1 / 2) / 3,
        "including_seen/recall_at_2": (1 + 1 / 2 + 1) / 3,
        "including_seen/ndcg_at_1": (0 + 0 + 1) / 3,
        "including_seen/ndcg_at_2": (second + second / both + 1) / 3,
        "excluding_seen/precision_at_1": 1,
        "excluding_seen/precision_at_2": (1 / 2 + 1 / 2 + 1) / 3,
        "excluding_seen/recall_at_1": (1 + 1 / 2 + 1 / 2) / 3,
        "excluding_seen/recall_at_2": (1 + 1 / 2 + 1) / 3,
        "excluding_seen/ndcg_at_1": 1,
        "excluding_seen/ndcg_at_2": (1 + 1 / both + 1) / 3,
    }
    assert {name: got[name] for name in expected} == pytest.approx(expected)


def test_hit_rate_mrr_map_and_auc_of_three_users_are_those_computed_by_hand():
    got = evaluate(SCORES, CANDIDATES, targets(RELEVANT, SEEN), ks=(2,))
    expected = {
        "including_seen/hit_rate_at_2": 1,
        "including_seen/mrr_at_2": (1 / 2 + 1 / 2 + 1) / 3,
        "including_seen/map_at_2": (1 / 2 + (1 / 2) / 2 + 1) / 3,
        "including_seen/auc": (2 / 3 + 1 / 4 + 1) / 3,  # the second user's are before 1 and 0 of 2
        "excluding_seen/hit_rate_at_2": 1,
        "excluding_seen/mrr_at_2": 1,
        "excluding_seen/map_at_2": (1 + 1 / 2 + 1) / 3,
        "excluding_seen/auc": (1 + 1 / 2 + 1) / 3,  # of the second user one other candidate is left
    }
    assert {name: got[name] for name in expected} == pytest.approx(expected)


def test_all_scores_equal_give_an_auc_of_one_half():
    got = evaluate(0 * SCORES, CANDIDATES, targets(RELEVANT, SEEN), ks=())
    assert got["including_seen/auc"] == got["excluding_seen/auc"] == 1 / 2
    assert got["including_seen/mean_rank"] == 2.5  # the mean of places 1 to 4
    assert got["excluding_seen/mean_rank"] == (2 + 2 + 2.5) / 3


def test_nothing_is_excluded_where_nothing_seen_is_known():
    got = evaluate(SCORES, CANDIDATES, targets(RELEVANT), ks=(1,))
    assert len(got) == 12
    assert all(name.startswith("including_seen/") for name in got)


def test_jax_embeddings_give_the_same_metrics():
    arguments = {"targets": targets(RELEVANT, SEEN), "ks": (2,), "top_k_accuracies": (1,)}
    expected = evaluate(SCORES, CANDIDATES, **arguments)
    assert evaluate(jnp.asarray(SCORES), jnp.asarray(CANDIDATES), **arguments) == expected


def test_ties_are_hits_of_interactions_but_a_user_gets_k_candidates():
    # All scores are equal: candidates 0 and 1 are the first two of every list.
    everything = targets([[2, 3], [0, 1, 2, 3], [1, 2]])
    got = evaluate(0 * SCORES, CANDIDATES, everything, ks=(2,), top_k_accuracies=(1,))
    assert got["factorized_top_k/top_1_categorical_accuracy"] == 1
    assert got["including_seen/precision_at_2"] == pytest.approx((0 + 1 + 1 / 2) / 3)
    assert got["including_seen/recall_at_2"] == pytest.approx((0 + 1 / 2 + 1 / 2) / 3)


def test_a_repeated_interaction_is_one_hit_of_its_user_but_counts_among_interactions():
    once, twice = targets([[0], [3], [1, 0]]), targets([[0, 0], [3, 3, 3], [1, 1, 0]])
    user_level = evaluate(SCORES, CANDIDATES, once, ks=(1, 2))
    got = evaluate(SCORES, CANDIDATES, twice, ks=(1, 2), top_k_accuracies=(1,))
    assert got.pop("factorized_top_k/top_1_categorical_accuracy") == 7 / 8
    assert got.pop("including_seen/interactions/hit_rate_at_1") == 7 / 8
    assert {name: user_level[name] for name in got if "interactions" not in name} == {
        name: value for name, value in got.items() if "interactions" not in name
    }


def test_seen_candidates_count_in_the_interaction_level_accuracy():
    got = evaluate(SCORES, CANDIDATES, targets([[1]] * 3, [[0, 2, 3]] * 3), ks=(), top_k_accuracies=(1,))
    assert got["factorized_top_k/top_1_categorical_accuracy"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(("ks", "accuracies"), [((0, 1), ()), ((), (-1,))])
def test_a_k_below_one_is_refused(ks, accuracies):
    with pytest.raises(ValueError, match="k must be at least 1, got"):
        evaluate(SCORES, CANDIDATES, targets(RELEVANT), ks=ks, top_k_accuracies=accuracies)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_the_first_embedding_that_is_not_finite_is_named(value):
    broken, expected = SCORES.copy(), targets(RELEVANT)
    broken[1:, 2] = value
    with pytest.raises(ValueError, match="2 query embeddings are not finite, the first in row 1"):
        evaluate(broken, CANDIDATES, expected, ks=(1,))
    broken = CANDIDATES.copy()
    broken[3, 0] = value
    with pytest.raises(ValueError, match="1 candidate embeddings are not finite, the first in row 3"):
        evaluate(SCORES, broken, expected, ks=(1,))


def test_most_popular_recommends_the_highest_counts():
    rng = np.random.default_rng(0)
    counts = rng.integers(0, 9, 30)  # many are equal
    relevant = [rng.choice(30, 6, replace=False).tolist() for _ in range(20)]
    seen = [rng.choice(30, 5, replace=False).tolist() for _ in range(20)]
    got = evaluate(*most_popular(counts, 20), targets(relevant, seen), ks=(7,))
    best = np.argsort(-counts, kind="stable")
    left = [best[~np.isin(best, of_user)] for of_user in seen]
    including = [len(set(best[:7]) & set(of_user)) for of_user in relevant]
    excluding = [len(set(a[:7]) & set(b)) for a, b in zip(left, relevant, strict=True)]
    assert got["including_seen/precision_at_7"] == pytest.approx(np.mean(including) / 7)
    assert got["excluding_seen/precision_at_7"] == pytest.approx(np.mean(excluding) / 7)
    assert got["excluding_seen/recall_at_7"] == pytest.approx(np.mean(excluding) / 6)
