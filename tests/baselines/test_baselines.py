"""Baselines beside plain forms of them."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.report.drawing import style
from experiments.shared.labels import system_label
from retrieval.baselines import BASELINES, Training, ease, neighbours, popularity
from retrieval.baselines.search import climb
from retrieval.common.lists import Lists
from retrieval.data.interactions import Interactions, Table

TIMELESS = [name for name, baseline in BASELINES.items() if not baseline.needs_timestamps]


def training_of(pairs, num_candidates, timestamps=None):
    queries, candidates = zip(*pairs, strict=True)
    events = Interactions(list(queries), list(candidates), timestamps=timestamps)
    return Training.of(events, Table(np.arange(num_candidates), {"kind": np.arange(num_candidates) % 3}))


def dense(training):
    rows = np.zeros((len(training.histories), training.num_candidates))
    rows[training.histories.owners, training.histories.rows] = 1
    return rows


def random_training(seed, num_queries=30, num_candidates=12):
    rng = np.random.default_rng(seed)
    pairs = np.stack([rng.integers(0, num_queries, 90), rng.zipf(1.3, 90) % num_candidates], axis=1)
    return training_of(pairs.tolist(), num_candidates)


pairs_strategy = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6)), min_size=1, max_size=25)


@settings(max_examples=40, deadline=None)
@given(pairs_strategy, st.sampled_from(sorted(TIMELESS)))
def test_any_data_give_finite_scores_of_the_whole_corpus(pairs, name):
    training = training_of(pairs, 8)  # candidate 7 is never seen
    baseline = BASELINES[name]
    histories = Lists.from_sequences([[], [0], [7, 1, 1], list(range(8))])
    scores = np.asarray(baseline.fit(training, **baseline.start)(histories))
    assert scores.shape == (4, 8) and scores.dtype == np.float32 and np.isfinite(scores).all()


@pytest.mark.parametrize("name", sorted(set(TIMELESS) - {"random"}))
def test_a_query_without_history_gets_the_most_popular(name):
    training = random_training(0)
    baseline = BASELINES[name]
    scores = np.asarray(baseline.fit(training, **baseline.start)(Lists.empty(2)))
    np.testing.assert_array_equal(np.argsort(-scores[1], kind="stable"), np.argsort(-training.counts, kind="stable"))


@pytest.mark.parametrize("name", sorted(TIMELESS))
def test_queries_are_scored_alike_alone_and_together(name):
    training = random_training(1)
    scorer = BASELINES[name].fit(training, **BASELINES[name].start)
    together = np.asarray(scorer(training.histories))
    for query in (0, 3):
        alone = np.asarray(scorer(training.histories.take(np.array([query]))))
        np.testing.assert_allclose(alone[0], together[query], rtol=2e-4, atol=2e-5)


def test_repeats_count_once():
    once, twice = [(0, 1), (0, 2), (1, 1)], [(0, 1), (0, 1), (0, 2), (1, 1), (1, 1)]
    for pairs in (once, twice):
        assert training_of(pairs, 4).counts.tolist() == [0, 2, 1, 0]


@pytest.mark.parametrize("num_neighbours", [1, 3, 50])
def test_cosine_neighbours_are_those_of_a_plain_loop(num_neighbours):
    training = random_training(2)
    rows, counts = dense(training), training.counts
    similarity = np.zeros((12, 12))
    for i in range(12):
        for j in range(12):
            if i != j and counts[i] and counts[j]:
                similarity[i, j] = rows[:, i] @ rows[:, j] / (math.sqrt(counts[i] * counts[j]) + 2.5)
        weakest = np.sort(similarity[i])[::-1][min(num_neighbours, 12) - 1]
        similarity[i, similarity[i] < weakest] = 0
    scorer = neighbours.cosine(training, neighbours=num_neighbours, shrinkage=2.5)
    np.testing.assert_allclose(scorer(training.histories), rows @ similarity, rtol=1e-5, atol=1e-6)


def test_bm25_weights_are_those_of_the_formula(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK_VALUES", 100)  # several blocks of candidates
    training = random_training(3)
    rows, counts, lengths = dense(training), training.counts, training.histories.lengths
    k1, b = 1.2, 0.4
    weights = np.zeros(rows.shape)
    for query, candidate in zip(*np.nonzero(rows), strict=True):
        length = 1 - b + b * counts[candidate] / counts.mean()
        weights[query, candidate] = (k1 + 1) / (k1 * length + 1) * (math.log(12) - math.log(1 + lengths[query]))
    similarity = weights.T @ weights
    np.fill_diagonal(similarity, 0)
    scorer = neighbours.bm25(training, neighbours=12, k1=k1, b=b)
    expected = rows @ np.maximum(similarity, 0)
    np.testing.assert_allclose(scorer(training.histories), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(30, 12), (9, 12), (12, 12)])  # with the smaller matrix on either side
def test_ease_is_the_minimum_under_a_diagonal_of_zeros(shape):
    training = random_training(4, *shape)
    rows = dense(training)
    inverse = np.linalg.inv(rows.T @ rows + 5.0 * np.eye(shape[1]))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    scorer = ease.fit(training, regularization=5.0)
    np.testing.assert_allclose(scorer(training.histories), rows @ weights, rtol=1e-4, atol=1e-5)


def test_both_forms_of_ease_agree_in_blocks(monkeypatch):
    monkeypatch.setattr(ease, "BLOCK", 5)
    training = random_training(5, 9, 12)
    dual = ease.fit(training, regularization=3.0)(training.histories)
    primal = np.asarray(ease._inverse(ease._gram(ease.matrix(training.histories, 12).T.tocsr()), 3.0))
    monkeypatch.setattr(ease, "_dual", lambda *_: primal)
    np.testing.assert_allclose(ease.fit(training, regularization=3.0)(training.histories), dual, rtol=1e-4, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 9)), min_size=1), st.floats(0.5, 30))
def test_near_pairs_of_ease_are_those_of_a_loop_over_events_by_time(events, half_distance):
    queries, candidates, times = map(list, zip(*events, strict=True))
    training = training_of(list(zip(queries, candidates, strict=True)), 8, timestamps=times)
    pairs = np.zeros((8, 8))
    for query in set(queries):
        ordered = [c for _, c in sorted(((t, c) for q, c, t in events if q == query), key=lambda event: event[0])]
        sequence = list(dict.fromkeys(ordered))
        for (i, one), (j, other) in itertools.product(enumerate(sequence), repeat=2):
            pairs[one, other] += 1 / (1 + abs(i - j) / half_distance)
    inverse = np.linalg.inv(pairs + 2.0 * np.eye(8))
    weights = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    scorer = ease.fit(training, regularization=2.0, half_distance=half_distance)
    histories = Lists.from_sequences([[c] for c in range(8)])
    np.testing.assert_allclose(scorer(histories), weights, rtol=1e-4, atol=1e-5)


def test_without_an_end_to_nearness_ease_is_as_it_was():
    training = random_training(6)
    near = ease.fit(training, regularization=3.0, half_distance=1e6)(training.histories)
    np.testing.assert_allclose(near, ease.fit(training, regularization=3.0)(training.histories), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("half_distance", [-1.0, math.nan, math.inf])
def test_half_distances_make_sense(half_distance):
    with pytest.raises(ValueError, match="half_distance must be finite and at least 0"):
        ease.fit(random_training(0), regularization=1.0, half_distance=half_distance)


@pytest.mark.parametrize(("size", "block"), [(1, 4), (7, 7), (7, 3), (12, 4), (13, 5)])
def test_the_inverse_is_that_of_numpy_in_any_blocks(monkeypatch, size, block):
    monkeypatch.setattr(ease, "BLOCK", block)
    rows = np.random.default_rng(size).standard_normal((size, 6)).astype(np.float32)
    gram = rows @ rows.T
    expected = np.linalg.inv(gram.astype(np.float64) + 0.5 * np.eye(size))
    np.testing.assert_allclose(ease._inverse(gram, 0.5), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("regularization", [0.0, -1.0, math.nan])
def test_ease_needs_regularization(regularization):
    with pytest.raises(ValueError, match="regularization must be above 0"):
        ease.fit(random_training(0), regularization=regularization)


def test_recent_popularity_counts_the_last_days():
    day = popularity.SECONDS_A_DAY
    pairs, times = [(0, 0), (1, 0), (2, 0), (0, 1), (1, 2), (2, 2)], [0, 0, 0, 9 * day, 10 * day, 3 * day]
    training = training_of(pairs, 4, times)
    one = Lists.empty(1)
    assert popularity.recent(training, days=2.0)(one)[0].argsort()[::-1][:2].tolist() == [2, 1]
    assert popularity.recent(training, days=1.0)(one)[0].argsort()[::-1][:3].tolist() == [2, 0, 1]
    with pytest.raises(ValueError, match="needs timestamps"):
        popularity.recent(training_of(pairs, 4), days=2.0)


def test_random_orders_differ_between_histories_and_stay_the_same():
    training = random_training(0)
    histories = Lists.from_sequences([[0], [1], [0]])
    scores = popularity.random(training)(histories)
    assert not np.array_equal(scores[0], scores[1])
    np.testing.assert_array_equal(scores[0], scores[2])
    np.testing.assert_array_equal(scores, popularity.random(training)(histories))


@pytest.mark.parametrize("name", sorted(BASELINES))
def test_searches_start_on_their_axes(name):
    baseline = BASELINES[name]
    assert baseline.start.keys() == baseline.axes.keys()
    for setting, values in baseline.axes.items():
        assert baseline.start[setting] in values and list(values) == sorted(values)


def test_a_search_climbs_one_axis_at_a_time_and_tries_nothing_twice():
    tried = []

    def score(settings):
        tried.append(tuple(settings.values()))
        return -float((settings["x"] - 1) ** 2 + (settings["y"] - 3) ** 2)

    best, value, num_tried = climb(score, {"x": (0, 1, 2, 3), "y": (0, 1, 2, 3)}, {"x": 3, "y": 0})
    assert (best, value) == ({"x": 1, "y": 3}, 0)
    assert num_tried == len(tried) == len(set(tried))


class Counted(tuple):
    """Values of an axis; a search that looks for its place without end fails in place of hanging."""

    def index(self, value):
        LOOKED_UP.append(value)
        assert len(LOOKED_UP) < 1000, "the search does not end"
        return super().index(value)


LOOKED_UP = []


@pytest.mark.parametrize("scores", [(1, 1, 1, 1, 1), (0, 2, 2, 2, 0), (0, 1, 1, 2, 2), (3, 1, 1, 1, 3)])
def test_a_search_ends_on_a_plateau_where_it_came_upon_it(scores):
    LOOKED_UP.clear()
    found = climb(
        lambda settings: float(scores[settings["x"]]), {"x": Counted(range(5)), "y": Counted("ab")}, {"x": 1, "y": "a"}
    )
    assert found[:2] == ({"x": 0 if scores[0] > scores[1] else 1, "y": "a"}, max(scores[0], scores[1]))


def test_reports_show_every_baseline_by_a_title_and_marker_of_its_own():
    assert len({baseline.title for baseline in BASELINES.values()}) == len(BASELINES)
    styles = [style(name) for name in BASELINES]
    assert len(set(styles)) == len(styles)
    assert [system_label(name) for name in BASELINES] == [baseline.title for baseline in BASELINES.values()]
