"""The columns of query towers: times of requests, ratings and times of histories, weights from ratings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tower_cases import HOUR, Feature

from retrieval.data.encoding import Encoding
from retrieval.data.interactions import Interactions, Table
from retrieval.data.sequences import Windows
from retrieval.features import fit
from retrieval.features.context import QueryContext, num_rating_rows, rating_rows
from retrieval.pipeline.examples import held_out_windows, rating_weights, window_examples

DAY = 86400
TRAIN_TIMES = np.array([10 * DAY, 20 * DAY])
WINDOWS = Windows(
    np.array([0, 1], np.int32),
    np.array([[0, 3, 5], [2, 0, 7]], np.int32),
    np.array([[False, True, True], [False, True, True]]),
    np.array([[np.nan, 4.0, np.nan], [0.5, 5.0, 1.0]], np.float32),
    np.array([[-1, 10 * DAY, 10 * DAY + 21_600], [11 * DAY, 11 * DAY, 9 * DAY]]),
)


def context(*names, **options):
    encoders = {"timestamp": fit(HOUR, TRAIN_TIMES)} if "timestamp" in names else {}
    facts = {"length": 2, "encoders": encoders, "now": 20 * DAY, "start": 10 * DAY, "top_rating": 5.0}
    return QueryContext(names=names, **(facts | options))


def test_a_request_without_a_time_is_made_when_train_ends():
    asked = context("timestamp", now=20 * DAY + 21_600)  # a quarter of a day
    np.testing.assert_allclose(asked.of_requests(None, 2)["timestamp"], [[1, 0, 0]] * 2, atol=1e-6)
    of_day = asked.of_requests(np.array([5 * DAY, 5 * DAY + 43_200]), 2)["timestamp"]
    np.testing.assert_allclose(of_day, [[0, 1, 0], [0, -1, 0]], atol=1e-6)


def test_no_request_has_columns_of_no_rows():
    assert context("timestamp").of_requests(None, 0)["timestamp"].shape == (0, 3)


def test_windows_have_the_columns_that_are_read_and_no_others():
    assert context().of_windows(WINDOWS) == {}
    found = context("history", "history_gaps").of_windows(WINDOWS)
    assert found["history"].tolist() == [[0, 3, 5], [2, 0, 7]]
    assert found["history_gaps"].tolist() == [[-1, -1, 21_600], [-1, 0, 0]]
    assert sorted(found) == ["history", "history_gaps"]


def test_times_of_a_history_are_seconds_since_train_began_and_never_negative():
    found = context("history_times").of_windows(WINDOWS)["history_times"]
    assert found.dtype == np.int32 and found.tolist() == [[0, 0, 21_600], [DAY, DAY, 0]]


def test_ages_are_unknown_without_a_time_or_a_first_one_and_never_negative():
    appeared = np.array([-1, -1, 11 * DAY, 10 * DAY - 5, 0, -1])
    found = context("history_ages", appeared=appeared).of_windows(WINDOWS)["history_ages"]
    assert found.dtype == np.int32 and found.tolist() == [[-1, 5, -1], [0, -1, -1]]


def test_a_context_is_read_as_it_was_written():
    written = context("timestamp", "history_ages", appeared=np.array([-1, 7]))
    read = QueryContext.from_json(written.to_json())
    assert read == written and read.appeared.tolist() == [-1, 7]


def test_the_time_of_each_interaction_is_that_of_its_request_and_an_unknown_one_is_now():
    found = context("timestamp").of_windows(WINDOWS)["timestamp"]
    assert found.shape == (2, 3, 3)
    np.testing.assert_allclose(found[0], [[0, 1, 0], [0, 1, 0], [1, 0, 0]], atol=1e-6)


def test_looked_up_times_of_windows_have_rows_and_weights():
    days = {"timestamp": fit(Feature("timestamp", "buckets", size=2), TRAIN_TIMES)}
    names = "timestamp", "timestamp/weights"
    found = QueryContext(names=names, length=2, encoders=days, now=20 * DAY).of_windows(WINDOWS)
    assert found["timestamp"][..., 0].tolist() == [[2, 1, 2], [2, 2, 1]]
    assert found["timestamp/weights"].shape == (2, 3, 1)


@given(
    st.lists(st.sampled_from([np.nan, -1.0, 0.0, 0.5, 2.5, 3.0, 5.0, 99.0]), max_size=8), st.sampled_from([3.5, 5.0])
)
def test_each_half_star_has_a_row_and_what_is_outside_the_nearest(ratings, top):
    rows = rating_rows(np.array(ratings, np.float32), top)
    expected = [0 if np.isnan(r) else 1 + round(2 * min(max(r, 0), top)) for r in ratings]
    assert rows.tolist() == expected and all(row < num_rating_rows(top) for row in expected)


@given(st.lists(st.sampled_from([1.0, 2.0, 4.5, np.nan]), min_size=1, max_size=8), st.sampled_from([0.5, 1.0, 3.0]))
def test_weights_are_those_of_a_plain_loop(ratings, strength):
    known = [r for r in ratings if r == r]
    mean, half = (np.mean(known), (max(known) - min(known)) / 2) if known else (0, 0)
    expected = [1.0 if r != r or not half else max(1 + strength * (r - mean) / half, 0) for r in ratings]
    found = rating_weights(np.array(ratings, np.float32), strength)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_weights_of_windows_count_from_the_mean_and_the_range_of_train():
    found = rating_weights(WINDOWS.ratings, 1.0, np.array([1.0, 5.0], np.float32))
    np.testing.assert_allclose(found, [[1, 1.5, 1], [0, 2, 0]], atol=1e-6)
    assert rating_weights(None, 0.0) is None
    with pytest.raises(ValueError, match="the interactions have no ratings; set data.columns.rating"):
        rating_weights(None, 0.5)


def test_windows_are_examples_with_a_target_where_there_is_one():
    examples = window_examples(np.array([4, 2], np.int32), WINDOWS, np.full((2, 3), 2.0), context("history"))
    assert examples.query_rows.tolist() == [4, 2] and examples.are_windows
    assert examples.candidate_rows.tolist() == [[-1, 3, 5], [-1, 0, 7]]  # the unknown candidate may be a target
    assert examples.weights.tolist() == [[0, 2, 2], [0, 2, 2]]
    assert examples.context["history"].tolist() == WINDOWS.rows.tolist()


def test_a_held_out_interaction_is_the_target_after_the_last_that_its_query_did_before():
    before = Interactions([7, 7, 7, 8], [1, 2, 3, 1], timestamps=[3, 1, 2, 1])
    encoding = Encoding.fit(before, Table(np.arange(5)))  # candidates 1 to 3 are rows 1 to 3
    held_out = Interactions([8, 7, 9, 7], [4, 1, 2, 3], [5.0, 4.0, 3.0, 2.0], [9, 9, 9, 8])
    windows = held_out_windows(encoding, held_out, before, 2)
    assert windows.rows.tolist() == [[0, 1, 0], [3, 1, 1], [0, 0, 2], [3, 1, 3]]
    assert windows.is_target.tolist() == [[False, False, True]] * 4
    assert windows.times.tolist() == [[-1, 1, 9], [2, 3, 9], [-1, -1, 9], [2, 3, 8]]
    assert np.isnan(windows.ratings[:, :2]).all() and windows.ratings[:, 2].tolist() == [5, 4, 3, 2]
    bare = held_out_windows(encoding, Interactions([7], [1]), before, 2)
    assert bare.times.tolist() == [[2, 3, -1]] and np.isnan(bare.ratings).all()
