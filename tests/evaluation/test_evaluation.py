"""A whole evaluation beside a loop over the users."""

import numpy as np
import pytest

from experiments.benchmarks.evaluation import SLICED, bootstrap_loop, user_loop
from retrieval.data.interactions import Interactions, Table
from retrieval.data.leakage import LeakageError
from retrieval.data.splits import split
from retrieval.evaluation import slice_metrics
from retrieval.evaluation.protocol import Evaluation

KS = (1, 5, 10)


def world(seed, num_queries=25, num_candidates=40):
    rng = np.random.default_rng(seed)
    pairs = np.stack([rng.integers(0, num_queries, 300), rng.zipf(1.4, 300) % num_candidates], axis=1)
    pairs = np.unique(pairs, axis=0)
    parts = split(
        Interactions(pairs[:, 0], pairs[:, 1]), "random", test_fraction=0.3, validation_fraction=0.0, seed=seed
    )
    genres = np.array([["War|Drama", "Drama", "Comedy|War"][i % 3] for i in range(num_candidates)])
    corpus = Table(np.arange(num_candidates), {"title": genres, "genres": genres})
    users = Table(np.arange(num_queries), {"gender": np.array(["F", "M"])[rng.integers(0, 2, num_queries)]})
    evaluation = Evaluation.of(parts.train, parts.test, corpus, users, ks=KS, top_k_accuracies=(5,))
    queries = rng.standard_normal((len(evaluation.targets.query_ids), 8)).astype(np.float32)
    return evaluation, queries, rng.standard_normal((num_candidates, 8)).astype(np.float32), parts


@pytest.mark.parametrize(("seed", "sliced_values"), [(0, 2**24), (1, 1000), (2, 1)])  # in batches of slices too
def test_every_metric_of_every_user_and_slice_is_that_of_a_loop(monkeypatch, seed, sliced_values):
    monkeypatch.setattr(slice_metrics, "VALUES_AT_A_TIME", sliced_values)
    evaluation, queries, candidates, _ = world(seed)
    result = evaluation.measure(evaluation.rank(queries, candidates), resamples=20)
    table, of_slices = user_loop(evaluation, queries, candidates)
    apart = {"coverage", "gini", "factorized_top_k"}
    assert table.keys() == {name for name in result.per_query.values if not any(part in name for part in apart)}
    for name, values in table.items():
        np.testing.assert_allclose(result.per_query.values[name], values[0], rtol=1e-9, atol=1e-12, err_msg=name)
    found = {"candidates": iter(range(99)), "queries": iter(range(99))}
    for of_slice in result.slices:
        number = next(found[of_slice.side])
        for name in SLICED:
            for k in KS:
                expected = of_slices[f"{of_slice.side} {number} {name}_at_{k}"][0]
                defined = expected[~np.isnan(expected)]
                value = of_slice.metrics[f"excluding_seen/{name}_at_{k}"]
                np.testing.assert_allclose(value, defined.mean() if len(defined) else np.nan, rtol=1e-12)
        assert of_slice.num_queries == len(defined)


def test_slices_tell_how_much_is_in_them():
    evaluation, queries, candidates, parts = world(0)
    slices = evaluation.measure(evaluation.rank(queries, candidates), resamples=20).slices
    by_name = {(s.side, s.column, s.value): s for s in slices}
    train_candidates, train_queries = set(parts.train.candidate_ids.tolist()), set(parts.train.query_ids.tolist())
    cold = [c not in train_candidates for c in parts.test.candidate_ids.tolist()]
    assert by_name["candidates", "vocabulary", "cold"].num_relevant == sum(cold)
    assert by_name["candidates", "vocabulary", "known"].num_relevant == len(cold) - sum(cold)
    known = [q in train_queries for q in parts.test.query_ids.tolist()]
    assert by_name["queries", "vocabulary", "known"].num_relevant == sum(known)
    assert by_name["queries", "vocabulary", "cold"].num_relevant == len(known) - sum(known)
    genders = [s.num_queries for s in slices if s.column == "gender"]
    assert sum(genders) == len(queries)


def cold_world():
    """Candidates 3, 4 and 5 are cold; query 1 has two of them in test, query 2 none, query 3 one."""
    train = Interactions([1, 2, 3, 3], [0, 1, 2, 0])
    test = Interactions([1, 1, 2, 3, 3], [3, 5, 0, 4, 1])
    return Evaluation.of(train, test, Table(np.arange(6)), ks=(1, 2))


def test_cold_candidates_are_ranked_among_themselves_too():
    evaluation = cold_world()
    scores = np.float32([[9, 8, 7, 1, 2, 3], [9, 8, 7, 1, 2, 3], [9, 8, 7, 3, 1, 2]])
    by_embeddings = evaluation.rank(scores, np.eye(6, dtype=np.float32))
    names = {tuple(evaluation.catalogue.histories[q].tolist()): q for q in range(3)}

    def scorer(histories):
        return scores[[names[tuple(histories[q].tolist())] for q in range(len(histories))]]

    for rankings in (by_embeddings, evaluation.rank_by(scorer)):
        result = evaluation.measure(rankings, resamples=10)
        figures, values = result.metrics, result.per_query.values
        np.testing.assert_array_equal(values["cold_candidates/recall_at_1"], [0.5, np.nan, 0])
        np.testing.assert_array_equal(values["cold_candidates/precision_at_2"], [0.5, np.nan, 0])
        assert figures["cold_candidates/interactions/hit_rate_at_1"] == pytest.approx(1 / 3)
        assert figures["cold_candidates/auc"] == (0.5 + 0) / 2
        assert figures["excluding_seen/recall_at_1"] == pytest.approx((0 + 1 + 0.5) / 3)
        assert not any("cold_candidates/coverage" in name for name in figures)
        (cold,) = (s for s in result.slices if (s.side, s.column, s.value) == ("candidates", "vocabulary", "cold"))
        assert cold.num_relevant == 3 and cold.metrics["excluding_seen/recall_at_2"] == 0  # behind all known ones


def test_a_scorer_is_asked_again_only_for_queries_with_something_cold():
    asked = []

    def scorer(histories):
        asked.append([histories[q].tolist() for q in range(len(histories))])
        return np.zeros((len(histories), 6), np.float32)

    cold_world().rank_by(scorer)
    assert asked == [[[0], [1], [0, 2]], [[0], [0, 2]]]


def test_without_something_cold_to_find_there_are_no_such_figures():
    train, test = Interactions([1, 2], [0, 1]), Interactions([1, 2], [1, 0])
    evaluation = Evaluation.of(train, test, Table(np.arange(3)), ks=(1,))  # 2 is cold, and nobody's
    figures = evaluation.measure(evaluation.rank(np.ones((2, 1), np.float32), np.ones((3, 1), np.float32))).metrics
    assert not any(name.startswith("cold_candidates") for name in figures)


def test_the_intervals_are_those_of_a_loop_over_resamples_but_for_chance():
    evaluation, queries, candidates, _ = world(1, num_queries=60)
    result = evaluation.measure(evaluation.rank(queries, candidates), resamples=4000)
    names = ["including_seen/novelty_at_10", "including_seen/average_popularity_at_10"]
    low, high = bootstrap_loop(np.array([result.per_query.values[name] for name in names]), 4000)
    for i, name in enumerate(names):
        width = high[i] - low[i]
        np.testing.assert_allclose(result.intervals[name], (low[i], high[i]), atol=0.1 * width)
        assert result.intervals[name][0] <= result.metrics[name] <= result.intervals[name][1]


def test_only_the_same_question_has_the_same_test_set():
    evaluation, *_, parts = world(0)
    corpus = Table(np.arange(40))
    order = np.random.default_rng(0).permutation(len(parts.test))

    def test_set(train=parts.train, test=parts.test, corpus=corpus):
        return Evaluation.of(train, test, corpus, ks=KS).test_set

    assert evaluation.test_set == test_set() == test_set(test=parts.test.take(order))
    others = [test_set(train=parts.train.take(slice(9))), test_set(test=parts.test.take(slice(9)))]
    others.append(test_set(corpus=Table(np.arange(41))))
    assert len({test_set(), *others}) == 4


def test_another_set_of_seen_candidates_is_another_test_set():
    test = Interactions([1, 2], [5, 6])

    def evaluation(*train):
        return Evaluation.of(Interactions(*zip(*train, strict=True)), test, Table(np.arange(8)), ks=KS)

    known = [(9, candidate) for candidate in range(8)]  # nothing is cold, whatever the others have seen
    before = evaluation(*known, (1, 0), (2, 1))
    for train in ([(1, 0), (2, 2)], [(1, 0), (1, 1)], [(1, 0), (2, 1), (2, 2)], [(1, 0), (2, 0)]):
        now = evaluation(*known, *train)
        assert now.targets.cold is None
        assert now.test_set != before.test_set
    assert evaluation(*known, (2, 1), (1, 0)).test_set == before.test_set


def test_a_corpus_without_attributes_has_no_diversity():
    evaluation, queries, candidates, parts = world(0)
    bare = Evaluation.of(parts.train, parts.test, Table(np.arange(40)), ks=(5,))
    figures = bare.measure(bare.rank(queries, candidates), resamples=10).metrics
    assert "excluding_seen/diversity_at_5" not in figures
    assert "excluding_seen/coverage_at_5" in figures
    figures = evaluation.measure(evaluation.rank(queries, candidates), resamples=10).metrics
    assert 0 <= figures["excluding_seen/diversity_at_5"] <= 1


def test_a_k_above_the_corpus_finds_all_that_is_relevant():
    _, queries, candidates, parts = world(0)
    evaluation = Evaluation.of(parts.train, parts.test, Table(np.arange(40)), ks=(5, 100), top_k_accuracies=(100,))
    figures = evaluation.measure(evaluation.rank(queries, candidates), resamples=10).metrics
    assert figures["excluding_seen/recall_at_100"] == figures["including_seen/coverage_at_100"] == 1
    relevant = evaluation.targets.relevant.lengths
    assert figures["excluding_seen/precision_at_100"] == pytest.approx(relevant.mean() / 100)


def test_what_is_excluded_is_no_hit_however_long_the_list():
    train, test = Interactions([1, 2], [10, 11]), Interactions([1], [10])  # the same pair in both
    evaluation = Evaluation.of(train, test, Table([10, 11, 12]), ks=(3, 4, 100), repeats=True)
    embeddings = np.ones((1, 2), np.float32), np.ones((3, 2), np.float32)
    figures = evaluation.measure(evaluation.rank(*embeddings), resamples=5).metrics
    assert all(figures[f"excluding_seen/{name}_at_{k}"] == 0 for name in SLICED for k in (3, 4, 100))
    assert figures["including_seen/recall_at_3"] == 1


def test_dislikes_are_excluded_but_no_history():
    train = Interactions([1, 1, 2, 2, 2], [10, 11, 11, 12, 12], ratings=[5, 1, 5, 5, 5])
    test = Interactions([1, 2], [12, 10], ratings=[5, 5])
    evaluation = Evaluation.of(train, test, Table([10, 11, 12]), ks=(2,), dislike_at_most=2.0)
    assert [evaluation.catalogue.histories[q].tolist() for q in (0, 1)] == [[0], [1, 2]]
    assert [sorted(evaluation.targets.seen[0].tolist()), evaluation.catalogue.counts.tolist()] == [[0, 1], [1, 1, 1]]
    rankings = evaluation.rank_by(lambda histories: np.tile(np.float32([1, 2, 3]), (len(histories), 1)))
    assert rankings["excluding_seen"].lists.tolist() == [[2, -1], [0, -1]]


def test_a_test_part_of_dislikes_alone_is_refused():
    train, test = Interactions([1], [10], ratings=[5]), Interactions([1], [11], ratings=[1])
    with pytest.raises(ValueError, match="nothing is relevant: all of the 1 events held out are dislikes"):
        Evaluation.of(train, test, Table([10, 11]), ks=(1,), dislike_at_most=2.0)


def test_a_coverage_whose_spread_is_not_known_has_no_interval():
    evaluation, queries, candidates, _ = world(0)
    same = np.repeat(queries[:1], len(queries), axis=0)  # all get the same list
    result = evaluation.measure(evaluation.rank(same, candidates), resamples=20)
    assert result.metrics["including_seen/coverage_at_5"] == 5 / 40
    assert np.isnan(result.intervals["including_seen/coverage_at_5"]).all()


def test_no_interval_of_a_share_leaves_zero_to_one():
    users = np.arange(1, 11)
    train, test = Interactions(users, [0] + [1] * 9), Interactions(users, [9] * 10)
    evaluation = Evaluation.of(train, test, Table(np.arange(10)), ks=(5,))
    queries = np.eye(2, dtype=np.float32)[[0] + [1] * 9]
    candidates = np.eye(2, dtype=np.float32)[[0] * 5 + [1] * 5]  # the first half for one query alone
    result = evaluation.measure(evaluation.rank(queries, candidates), resamples=200)
    name = "including_seen/coverage_at_5"
    assert result.metrics[name] == pytest.approx(1)
    assert result.per_query.values[name].max() > 1  # influence values know no bounds
    assert 0 <= result.intervals[name][0] < result.intervals[name][1] == 1


def test_a_k_below_one_is_refused():
    *_, parts = world(0)
    with pytest.raises(ValueError, match=r"k must be at least 1, got 0"):
        Evaluation.of(parts.train, parts.test, Table(np.arange(40)), ks=(5, 0))


def test_what_is_held_out_may_not_be_in_train():
    train, test = Interactions([1, 1, 2], [10, 11, 10]), Interactions([1, 2], [11, 12])
    with pytest.raises(LeakageError, match="1 interactions of train are in test too, the first of query 1 with cand"):
        Evaluation.of(train, test, Table([10, 11, 12]), ks=(1,))
