"""Times keep their order to the nanosecond and their unit, from every form; ids have one type and one spelling."""

import datetime as dt

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.common.errors import DataError
from retrieval.config.schema import Columns, Data
from retrieval.data.dataset import load
from retrieval.data.interactions import Interactions, concatenate
from retrieval.data.leakage import LeakageError, check_parts
from retrieval.data.readers import files
from retrieval.data.sequences import Histories
from retrieval.data.splits import Parts, split
from retrieval.data.times import UNITS, as_times, written

ROLES = {"query_id": "user", "candidate_id": "item", "timestamp": "time"}
NOON = 1_704_110_400  # of 1 January 2024, UTC
BERLIN = dt.timezone(dt.timedelta(hours=1))


def clicks():
    """Returns 200 sessions of five clicks within .6 s, shuffled, and the last click of each: its candidate id."""
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(200), 5)
    offsets = np.sort(rng.choice(600_000_000, (200, 5)), axis=1)  # nanoseconds
    times = (NOON * 10**9 + users * 60 * 10**9 + offsets.ravel()).astype("datetime64[ns]")
    items = np.arange(1000)
    order = rng.permutation(1000)
    return users[order], items[order], times[order], items[4::5]


def sources(folder):
    """Yields the clicks as arrays, a frame, and files."""
    users, items, times, _ = clicks()
    iso = [str(time) for time in times]
    yield "array", Interactions(users, items, timestamps=times)
    frame = pd.DataFrame({"user": users, "item": items, "time": pd.to_datetime(times, utc=True)}, index=items + 7)
    yield "pandas", Interactions(frame.user, frame.item, timestamps=frame.time)
    yield "polars", Interactions(users, items, timestamps=pl.Series(times))
    yield "text", Interactions(users, items, timestamps=iso)
    nanoseconds = times.astype(np.int64)
    decimals = [written(int(time // 10**9), int(time % 10**9)) for time in nanoseconds]
    for name, column in (("iso", iso), ("decimal", decimals)):
        path = folder / f"{name}.csv"
        rows = [f"{user},{item},{time}" for user, item, time in zip(users, items, column, strict=True)]
        path.write_text("\n".join(["user,item,time", *rows]))
        yield name, files.read_interactions(path, **ROLES)
    for name, column in (("zoned", pa.array(times, pa.timestamp("ns", "Asia/Tokyo"))), ("number", nanoseconds)):
        path = folder / f"{name}.parquet"
        pq.write_table(pa.table({"user": users, "item": items, "time": column}), path)
        yield name, files.read_interactions(path, **ROLES, timestamp_unit="ns")


def test_the_last_click_within_a_second_is_held_out_from_every_source(tmp_path):
    last = clicks()[3]
    for name, events in sources(tmp_path):
        parts = split(events, "leave_last_out", test_fraction=0.2, validation_fraction=0.0, seed=0)
        assert np.array_equal(np.sort(parts.test.candidate_ids), last), name
        histories = Histories.of(events.query_ids, events.candidate_ids, events, 200)
        assert np.array_equal(histories.lists.rows, np.arange(1000)), name
        again = concatenate(parts.train, parts.test)
        assert np.array_equal(again.candidate_ids[again.order_by_time()], np.arange(1000)), name


def test_a_temporal_split_cuts_within_a_second_and_the_check_of_leakage_sees_it():
    events = Interactions([1, 2, 3, 4], [1, 2, 3, 4], timestamps=[NOON + 0.75, NOON + 0.25, NOON + 0.5, NOON])
    parts = split(events, "temporal", test_fraction=0.25, validation_fraction=0.0, seed=0)
    assert parts.test.candidate_ids.tolist() == [1]
    assert check_parts(parts, temporal=True) == 0
    with pytest.raises(LeakageError, match=rf"train has an interaction at {NOON}.75, after .* test at {NOON}:"):
        check_parts(Parts(events.take(slice(0, 2)), None, events.take(slice(3, 4))), temporal=True)


def test_whole_seconds_beside_fractions_keep_their_time():
    whole, fractions = Interactions([1], [2], timestamps=[5]), Interactions([1], [3], timestamps=[4.5])
    for both in (concatenate(whole, fractions), concatenate(fractions, whole)):
        assert both.candidate_ids[both.order_by_time()].tolist() == [3, 2]
    assert whole.nanoseconds is None and concatenate(whole, whole).nanoseconds is None


@pytest.mark.parametrize(
    "values",
    [
        [NOON],
        [float(NOON)],
        np.array(["2024-01-01T12"], "datetime64[h]"),
        [dt.datetime(2024, 1, 1, 13, tzinfo=BERLIN)],
        [dt.datetime(2024, 1, 1, 12)],
        [pd.Timestamp("2024-01-01 13:00", tz="Europe/Berlin")],
        pd.DatetimeIndex(["2024-01-01 13:00"], tz="Europe/Berlin"),
        pd.Series([NOON], dtype="Int64", index=[9]),
        pl.Series([dt.datetime(2024, 1, 1, 12)]),
        pa.chunked_array([pa.array([NOON], pa.timestamp("s"))]),
        ["2024-01-01T12:00:00Z"],
        ["2024-01-01 13:00+01:00"],
        ["2024-01-01 12:00:00 UTC"],
        [str(NOON)],
        (time for time in [NOON]),
    ],
    ids=lambda values: f"{type(values).__name__}",
)
def test_every_form_of_one_time_is_that_time(values):
    events = Interactions([1], [2], timestamps=values)
    assert (events.timestamps.tolist(), events.nanoseconds) == ([NOON], None)


@given(st.lists(st.integers(0, 253_402_300_799 * 10**9), min_size=1))
def test_decimal_text_keeps_each_nanosecond(times):
    texts = [f"{time // 10**9}.{time % 10**9:09d}" for time in [0, *times]]
    found = as_times(texts, "times")
    rests = np.zeros(len(texts), np.int64) if found.nanoseconds is None else found.nanoseconds
    pairs = zip(found.seconds.tolist(), rests.tolist(), strict=True)
    assert [second * 10**9 + rest for second, rest in pairs] == [0, *times]


@pytest.mark.parametrize("unit", UNITS)
def test_numbers_of_another_unit_are_refused_and_read_where_they_are_declared(unit):
    number = NOON * UNITS[unit]
    assert as_times([number], "times", unit).seconds.tolist() == [NOON]
    for other in set(UNITS) - {unit}:
        with pytest.raises(DataError, match=f"row 1: .* set data.columns.timestamp_unit={unit},"):
            as_times([0, number], "times", other)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1, None], "row 1: missing timestamp, got None"),
        ([1.0, np.nan], "row 1: missing timestamp, got nan"),
        (pd.to_datetime(["2024-01-01", None]), "row 1: missing timestamp"),
        (np.array(["NaT"], "datetime64[s]"), "row 0: missing timestamp"),
        (["1", "NULL"], "row 1: missing timestamp, got 'NULL'"),
        ([1.0, np.inf], "row 1: timestamp is not finite"),
        ([-1], "row 0: timestamp out of range"),
        ([2**70], "row 0: timestamp out of range"),
        (["2024-02-30"], "row 0: no such date"),
        (["2024-01-01", "5"], "row 1: timestamp is not ISO 8601"),
        ([5, dt.date(2024, 1, 1)], "row 1: a datetime among numbers"),
        ([20240131, 20240201], "row 0: a date written as a number"),
        ([True], "row 0: a timestamp must be a time"),
    ],
)
def test_what_is_no_time_is_refused_with_its_row(values, message):
    with pytest.raises(DataError, match=message):
        Interactions([1] * len(values), [2] * len(values), timestamps=values)


@pytest.mark.parametrize("ratings", [[1, np.nan], [1, -0.5], [1, np.inf], [1, None], [1, 1e60]])
def test_arrays_of_ratings_are_checked_as_files_are(ratings):
    with pytest.raises(DataError, match="ratings, row 1: "):
        Interactions([1, 2], [3, 4], ratings)


BAD_IDS = [
    (["1"] * 30 + ["user"], 30),  # the header again
    (["1"] * 30 + ["12.0"], 30),
    (["1", "2.0"], 1),
    *((["1"] * 30 + [word], 30) for word in ("NULL", "null", "None", "nan", "NaN", "NA", "N/A", r"\N", "<NA>")),
    (["a", " b"], 1),
    (["a", "b "], 1),
    (["1"] * 30 + ["guest"], 30),
]


@pytest.mark.parametrize(("ids", "row"), BAD_IDS, ids=lambda value: str(value)[-12:])
def test_ids_that_are_mistakes_are_refused_with_their_place_in_files_and_arrays(tmp_path, ids, row):
    path = tmp_path / "events.csv"
    path.write_text("\n".join(["user,item", *(f"{user},1" for user in ids)]))
    with pytest.raises(DataError, match=f"line {row + 2}, column 'user': "):
        files.read_interactions(path, query_id="user", candidate_id="item")
    pq.write_table(pa.table({"user": ids, "item": [1] * len(ids)}), tmp_path / "events.parquet")
    with pytest.raises(DataError, match=f"row {row + 1}, column 'user': "):
        files.read_interactions(tmp_path / "events.parquet", query_id="user", candidate_id="item")
    for values in (ids, np.array(ids, object), pd.Series(ids, index=range(7, 7 + len(ids)))):
        with pytest.raises(DataError, match=f"query_ids, row {row}: "):
            Interactions(values, [1] * len(ids))


def test_mixed_ids_are_text_and_the_first_that_decides_is_told(tmp_path, caplog):
    path = tmp_path / "events.csv"
    path.write_text("user,item\n7,1\nx,2\n")
    assert files.read_interactions(path, query_id="user", candidate_id="item").query_ids.tolist() == ["7", "x"]
    assert "column 'user': all ids are text, as some are no integers, the first 'x' in line 3" in caplog.text


def test_repeats_between_train_and_validation_are_allowed_where_they_are_meant_and_not_counted():
    train, validation, test = Interactions([1, 1], [1, 2]), Interactions([1], [2]), Interactions([1], [1])
    assert check_parts(Parts(train, validation, test), repeats=True) == 1
    with pytest.raises(LeakageError, match="1 interactions of train are in validation too"):
        check_parts(Parts(train, validation, Interactions([2], [3])))


def test_pairs_differ_beyond_65536_candidates():
    """A code of 16 bits for the candidate would take (query 0, candidate 65536) for (query 1, candidate 0)."""
    held_out = Interactions(np.append(np.zeros(65_537, np.int64), 1), np.append(np.arange(65_537), 5))
    assert check_parts(Parts(Interactions([1, 1], [0, 7]), None, held_out)) == 0


def test_a_streamed_part_tells_which_columns_are_not_read(tmp_path, caplog):
    for part, items in (("train", [1, 2]), ("test", [2, 1])):
        pq.write_table(pa.table({"user_id": [1, 2], "item_id": items, "t": [1, 2]}), tmp_path / f"{part}.parquet")
    paths = {part: str(tmp_path / f"{part}.parquet") for part in ("train", "test")}
    data = Data(**paths, cache=str(tmp_path), placement="stream", drop_duplicates=False, columns=Columns(timestamp="t"))
    load(data)
    assert "column 't' of it is not read, so histories are in the order of the file" in caplog.text


def test_ids_that_are_integers_in_one_file_and_text_in_another_are_told(tmp_path, caplog):
    for part, users in (("train", "1 2"), ("test", "2 a")):
        (tmp_path / f"{part}.csv").write_text("\n".join(["user_id,item_id", *(f"{u},{len(u)}" for u in users.split())]))
    found = load(Data(train=str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv")))
    assert found.parts.train.query_ids.tolist() == ["1", "2"]
    assert "the query ids are text in one file and integers in another: all are read as text" in caplog.text
