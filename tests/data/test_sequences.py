"""Histories and their windows against a plain loop over interactions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.data.interactions import Interactions
from retrieval.data.sequences import Histories, gaps

NUM_OWNERS = 4


@st.composite
def events(draw):
    """Owners, rows and interactions of a few histories, which may lack times or ratings; equal times are common."""
    number = draw(st.integers(0, 30))

    def column(values, dtype):
        return np.array(draw(st.lists(values, min_size=number, max_size=number)), dtype)

    owners = column(st.integers(-1, NUM_OWNERS - 1), np.int64)
    rows = column(st.integers(0, 5), np.int32)
    ratings = column(st.sampled_from([0.5, 3.0, 5.0, np.nan]), np.float32) if draw(st.booleans()) else None
    times = column(st.integers(0, 4), np.int64) * 10**9 if draw(st.booleans()) else None
    zeros = np.zeros(number, np.int64)
    if ratings is None:
        return owners, rows, Interactions(zeros, zeros, timestamps=times)
    events = Interactions(zeros, zeros, np.nan_to_num(ratings), times)
    return owners, rows, events.with_unknown_ratings(np.isnan(ratings))


def plain_histories(owners, rows, interactions):
    """Returns of each owner the (row, rating, time) of its interactions, in the order of time."""
    histories = [[] for _ in range(NUM_OWNERS)]
    times, ratings = interactions.timestamps, interactions.ratings
    places = range(len(owners)) if times is None else sorted(range(len(owners)), key=lambda i: times[i])
    for i in places:
        if owners[i] >= 0:
            rating = np.nan if ratings is None else float(ratings[i])
            histories[owners[i]].append((int(rows[i]), rating, -1 if times is None else int(times[i])))
    return histories


def plain_windows(histories, length):
    """Returns of each window its owner, its interactions and how many of them, at the end, are targets."""
    stride, found = max(length // 2, 1), []
    for owner, history in enumerate(histories):
        end, done = min(length, len(history)), 0
        while done < len(history):
            found.append((owner, history[max(end - length, 0) : end], end - done))
            end, done = min(end + stride, len(history)), end
    return found


def same(one, other):
    return np.array_equal(np.array(one, np.float64), np.array(other, np.float64), equal_nan=True)


def check(windows, i, expected, num_targets, length):
    """Checks one window: padding first, the interactions at the end, and the last of them targets."""
    padding = length - len(expected)
    assert not windows.rows[i, :padding].any()
    assert np.isnan(windows.ratings[i, :padding]).all() and (windows.times[i, :padding] == -1).all()
    columns = windows.rows[i], windows.ratings[i], windows.times[i]
    found = list(zip(*(column[padding:].tolist() for column in columns), strict=True))
    assert same(found, expected)
    assert windows.is_target[i].tolist() == [False] * (length - num_targets) + [True] * num_targets


@settings(deadline=None)
@given(events(), st.integers(1, 7))
def test_windows_are_those_of_a_plain_loop(given_events, length):
    histories = Histories.of(*given_events, NUM_OWNERS)
    expected = plain_windows(plain_histories(*given_events), length)
    windows = histories.windows(length)
    assert windows.owners.tolist() == [owner for owner, _, _ in expected]
    assert windows.rows.shape == (len(expected), length)
    for i, (_, interactions, num_targets) in enumerate(expected):
        check(windows, i, interactions, num_targets, length)


@settings(deadline=None)
@given(events(), st.integers(2, 7))
def test_each_interaction_is_a_target_once_after_half_a_window_where_there_is_as_much(given_events, length):
    histories = Histories.of(*given_events, NUM_OWNERS)
    windows = histories.windows(length)
    targets = [[] for _ in range(NUM_OWNERS)]
    for owner, rows, is_target in zip(windows.owners, windows.rows, windows.is_target, strict=True):
        for place in np.flatnonzero(is_target):
            known = min(len(targets[owner]), place)  # interactions of the window before the target
            assert known == len(targets[owner]) or known >= length / 2
            targets[owner].append(int(rows[place]))
    assert targets == [[row for row, _, _ in history] for history in plain_histories(*given_events)]


@settings(deadline=None)
@given(events(), st.integers(1, 7), st.lists(st.integers(0, NUM_OWNERS - 1), max_size=6))
def test_the_last_interactions_of_any_owners_in_any_order(given_events, length, owners):
    histories = Histories.of(*given_events, NUM_OWNERS).take(np.array(owners, np.int64))
    windows = histories.last(length)
    plain = plain_histories(*given_events)
    assert windows.owners.tolist() == list(range(len(owners)))
    assert windows.rows.shape == (len(owners), length)
    for i, owner in enumerate(owners):
        check(windows, i, plain[owner][-length:], 0, length)


def test_equal_times_keep_the_order_of_the_file_and_no_times_are_that_order():
    owners, rows = np.zeros(6, np.int64), np.arange(1, 7, dtype=np.int32)
    for times, expected in (([5, 5, 1, 5, 1, 9], [3, 5, 1, 2, 4, 6]), (None, [1, 2, 3, 4, 5, 6])):
        events = Interactions(owners, owners, timestamps=times)
        assert Histories.of(owners, rows, events, 1).last(6).rows.tolist() == [expected]


def test_an_owner_without_interactions_has_no_window_to_train_on_and_an_empty_one_to_answer_with():
    owners = np.array([2, 2])
    histories = Histories.of(owners, np.array([7, 8]), Interactions(owners, owners), 4)
    assert histories.windows(3).owners.tolist() == [2]
    assert histories.last(3).rows.tolist() == [[0, 0, 0], [0, 0, 0], [0, 7, 8], [0, 0, 0]]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3) | st.just(-1), min_size=4, max_size=4), max_size=5))
def test_gaps_are_the_seconds_since_the_interaction_before(rows):
    times = np.array(rows, np.int64).reshape(len(rows), 4) * 10**6
    times = np.where(times < 0, -1, times)
    expected = [
        [-1 if j == 0 or t < 0 or row[j - 1] < 0 else max(t - row[j - 1], 0) for j, t in enumerate(row)]
        for row in times.tolist()
    ]
    assert gaps(times).tolist() == expected


@pytest.mark.parametrize("years", [60, 200])
def test_a_gap_beyond_int32_is_the_longest(years):
    seconds = years * 365 * 86400
    assert gaps(np.array([[0, seconds]]))[0, 1] == min(seconds, 2**31 - 1)
