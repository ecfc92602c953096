"""Numbers, buckets, waves and vectors, by hand and against plain forms."""

import datetime
import math

import numpy as np
import pytest
from feature_cases import OPTIONAL_NUMBERS, Feature
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.features import fit

DAY, WEEK = 86_400.0, 604_800.0


def test_numbers_are_normalised_by_the_training_part():
    number = fit(Feature(kind="number"), [2, 4, None, 4, 4, 5, 5, 7, 9])  # mean 5, standard deviation 2
    assert (number.mean, number.deviation, number.least, number.largest) == (5.0, 2.0, 2.0, 9.0)
    assert number.encode([5, 8, 2, np.nan]).values.tolist() == [[0, 0], [1.5, 0], [-1.5, 0], [0, 1]]


def test_numbers_beyond_train_count_as_the_nearest_of_it():
    number = fit(Feature(kind="number"), [1, 3])
    assert number.encode([-1e30, 1, 3, 1e38]).values[:, 0].tolist() == [-1, -1, 1, 1]


@pytest.mark.parametrize("value", [0.1, 1e38, -5e-324, 1_700_000_000, 2**62 + 1])
def test_a_constant_column_is_zero(value):
    number = fit(Feature(kind="number"), [value] * 7)
    assert number.encode([value, value + 1, -value, None]).values.tolist() == [[0, 0], [0, 0], [0, 0], [0, 1]]


@pytest.mark.parametrize("values", [[0.0, 5e-324], [1e38, -1e38, 1e38], [1e-200, 0.0, 2e-200]])
def test_extreme_numbers_stay_finite(values):
    encoded = fit(Feature(kind="number"), values).encode(values)
    assert np.isfinite(encoded.values).all() and np.abs(encoded.values).max() <= math.sqrt(len(values))


def test_seconds_of_timestamps_are_told_apart():
    start = 1_700_000_000
    times = np.arange(start, start + 1000)
    assert len(np.unique(fit(Feature(kind="number"), times).encode(times).values[:, 0])) == 1000
    buckets = fit(Feature(kind="buckets", size=1000), times)
    assert buckets.encode(times).rows.ravel().tolist() == list(range(1, 1001))


def test_buckets_hold_quantiles():
    buckets = fit(Feature(kind="buckets", size=4), [8, 1, 2, 3, 4, 5, 6, 7, None])
    assert buckets.bounds == (2.0, 4.0, 6.0) and buckets.spec == (5, 1, "mean")
    encoded = buckets.encode([1, 2, 2.1, 4, 6, 6.1, 8, -99, 99, None])
    assert encoded.rows.ravel().tolist() == [1, 1, 2, 2, 3, 4, 4, 1, 4, 0]
    assert encoded.weights.tolist() == [[1.0]] * 10


def test_equal_values_share_a_bucket():
    assert fit(Feature(kind="buckets", size=4), [1, 1, 1, 1, 1, 2, 3, 9]).bounds == (1.0, 2.0)
    assert fit(Feature(kind="buckets", size=4), [1, 1, 2, 2, 2, 2]).bounds == (1.0,)
    assert fit(Feature(kind="buckets", size=4), [3, 3, 3]).bounds == ()
    assert fit(Feature(kind="buckets", size=9), [3, 1]).bounds == (1.0,)


@settings(deadline=None)
@given(st.lists(OPTIONAL_NUMBERS, max_size=30), st.integers(2, 8))
def test_every_bucket_holds_training_values_and_is_not_larger_than_ties_make_it(values, size):
    buckets = fit(Feature(kind="buckets", size=size), values)
    present = [float(v) for v in values if v is not None and v == v]
    rows = buckets.encode(present).rows.ravel()
    assert set(rows.tolist()) == set(range(1, buckets.spec.num_rows)) or not present
    for row in set(rows.tolist()):
        inside = np.array(present)[rows == row]
        largest = (inside == inside.max()).sum()  # a bucket ends with all that equal its largest value
        assert len(inside) - largest < len(present) / size


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1), st.lists(st.integers(-1, 10)), st.integers(2, 5))
def test_buckets_are_those_of_counting(train, asked, size):
    ordered = sorted(train)
    ends = {ordered[max(math.ceil(k * len(train) / size - 1e-9) - 1, 0)] for k in range(1, size)}
    buckets = fit(Feature(kind="buckets", size=size), train)
    if len(train) % size == 0:
        assert buckets.bounds == tuple(sorted(ends - {ordered[-1]}))
    assert buckets.encode(asked).rows.ravel().tolist() == [
        1 + sum(value > b for b in buckets.bounds) for value in asked
    ]


def seconds(*date):
    return int(datetime.datetime(*date, tzinfo=datetime.UTC).timestamp())


def test_a_day_and_a_week_come_around():
    hours = fit(Feature(kind="periodic", size=2, period=DAY), [])
    assert hours.spec == (0, 5, "")
    encoded = hours.encode([seconds(1998, 4, 3, 6), seconds(2024, 2, 29, 6), seconds(2024, 2, 29, 12)]).values
    expected = [[1, 0, 0, -1, 0], [1, 0, 0, -1, 0], [0, 0, -1, 1, 0]]  # a quarter of a day, and half of one
    np.testing.assert_allclose(encoded, expected, atol=1e-7)
    assert encoded[0].tolist() == encoded[1].tolist()
    week = fit(Feature(kind="periodic", size=1, period=WEEK), [])
    same, other = week.encode([seconds(2024, 2, 26), seconds(1998, 4, 6)]).values, week.encode([seconds(2024, 2, 27)])
    assert same[0].tolist() == same[1].tolist() != other.values[0].tolist()  # two Mondays and a Tuesday


def test_waves_lose_no_second_of_a_far_time():
    waves = fit(Feature(kind="periodic", size=3, period=DAY), [])
    near, far = np.arange(0, 86_400, 977), np.arange(0, 86_400, 977) + 86_400 * 10**9
    assert waves.encode(far).values.tobytes() == waves.encode(near).values.tobytes()


@settings(deadline=None)
@given(st.lists(st.integers(-(2**40), 2**40)), st.integers(1, 5), st.sampled_from([DAY, WEEK, 7.0]))
def test_waves_are_those_of_the_plain_form(times, size, period):
    encoded = fit(Feature(kind="periodic", size=size, period=period), []).encode(times).values
    for row, time in zip(encoded.tolist(), times, strict=True):
        angles = [2 * math.pi * (k * time % period) / period for k in range(1, size + 1)]
        plain = [*map(math.sin, angles), *map(math.cos, angles), 0.0]
        np.testing.assert_allclose(row, plain, atol=1e-6)


def test_vectors_are_given_as_arrays_lists_or_text():
    vector = fit(Feature(kind="vector"), np.array([[0.5, -2.0], [np.nan, np.nan]], np.float32))
    assert vector.spec == (0, 3, "")
    expected = [[0.5, -2, 0], [0, 0, 1]]
    text = np.array(["0.5 -2", ""])
    for values in ([[0.5, -2.0], [np.nan, np.nan]], text, ["0.5|-2", None], [" 5e-1  -2.0 ", " "]):
        assert vector.encode(values).values.tolist() == expected
        assert fit(Feature(kind="vector"), values).size == 2


def test_vectors_keep_their_bits():
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    encoder = fit(Feature(kind="vector"), vectors)
    assert encoder.encode(vectors).values[:, :-1].tobytes() == vectors.tobytes()
    text = [" ".join(map(str, row)) for row in vectors]
    assert encoder.encode(text).values[:, :-1].tobytes() == vectors.tobytes()
