"""Requests take columns and frames of any labels, iterators and datetimes; ids that are mistakes are refused."""

import datetime as dt

import pandas as pd
import polars as pl
import pytest

from retrieval.data.vocabulary import Vocabulary
from retrieval.serving.request import Request, lists_of

INTEGERS, TEXTS = Vocabulary([1, 2, 3]), Vocabulary(["12", "b"])


def make_request(vocabulary, ids=None, history=None, times=None):
    return Request.from_arguments(vocabulary, ids, history, None, times, "user_id")


@pytest.mark.parametrize(
    "history",
    [
        pd.Series([[1, 2], [3, 1]], index=[7, 8]),
        pd.DataFrame({"a": [1, 3], "b": [2, 1]}, index=[7, 8]),
        pl.Series([[1, 2], [3, 1]]),
        (list(ids) for ids in [(1, 2), (3, 1)]),
    ],
    ids=lambda history: type(history).__name__,
)
def test_histories_are_read_by_position_from_every_form(history):
    request = make_request(INTEGERS, pd.Series([1, 2], index=[7, 8]), history)
    assert request.rows.tolist() == [1, 2]
    assert lists_of("history", request.history, INTEGERS.rows, 0).rows.tolist() == [1, 2, 3, 1]


@pytest.mark.parametrize(
    "times", [dt.datetime(2024, 1, 1), "2024-01-01", [1_704_067_200], pd.to_datetime(["2024-01-01"])]
)
def test_times_of_requests_are_read_from_every_form(times):
    assert make_request(INTEGERS, [1], times=times).times.tolist() == [1_704_067_200]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("12.0", "'12.0' is unknown and '12' is known"),
        (" b", "blanks around an id"),
        ("NULL", "missing id, got 'NULL'"),
    ],
)
def test_an_unknown_id_that_is_a_mistake_is_refused(text, message):
    with pytest.raises(ValueError, match=f"user_id: {message}"):
        make_request(TEXTS, [text])
    with pytest.raises(ValueError, match=f"exclude: {message}"):
        lists_of("exclude", [["b"], [text]], TEXTS.rows, 0)
    assert make_request(TEXTS, ["x"]).rows.tolist() == [0]
