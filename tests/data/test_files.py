"""The user's files give interactions and tables, or an error that says where they are wrong."""

import csv
import datetime
import decimal
import gzip
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.common.errors import DataError
from retrieval.data.columns import to_list
from retrieval.data.interactions import Interactions
from retrieval.data.readers import files
from retrieval.data.times import LATEST

ROLES = {"query_id": "user", "candidate_id": "item", "rating": "rating", "timestamp": "time"}
IDS = {"query_id": "user", "candidate_id": "item"}
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8).filter(str.strip)
EVENT = st.tuples(
    st.integers(0, 2**63 - 1),
    TEXT.map(lambda text: f"x{text}x"),  # no number, and no blanks around it
    st.floats(0, 2.0**100, width=32),
    st.integers(0, LATEST).filter(lambda time: not 19_700_101 <= time <= 21_001_231),  # 20240131 is refused
)


def write_delimited(path, names, rows):
    opened = gzip.open(path, "wt", newline="") if path.suffix == ".gz" else open(path, "w", newline="")
    with opened as file:
        delimiter = "\t" if ".tsv" in path.name else ","
        csv.writer(file, delimiter=delimiter).writerows([names, *rows])
    return path


def write_parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize("name", ["events.csv", "events.tsv", "events.csv.gz", "events.tsv.gz", "events.parquet"])
@settings(deadline=None, max_examples=40)
@given(events=st.lists(EVENT, min_size=1))
def test_events_are_read_back_from_every_format(tmp_path_factory, name, events):
    path = tmp_path_factory.getbasetemp() / name
    users, items, ratings, times = map(list, zip(*events, strict=True))
    if name.endswith(".parquet"):
        write_parquet(path, user=users, item=items, rating=pa.array(ratings, pa.float32()), time=times)
    else:
        write_delimited(path, ROLES.values(), events)
    found = files.read_interactions(path, **ROLES)
    expected = np.array(users), np.array(items), np.array(ratings, np.float32), np.array(times)
    assert found.fingerprint() == Interactions(*expected).fingerprint()


@settings(deadline=None, max_examples=60)
@given(st.binary(max_size=60), st.sampled_from(["csv", "tsv", "csv.gz", "parquet"]), st.booleans())
def test_any_bytes_are_data_or_a_value_error(tmp_path_factory, content, ending, framed):
    path = tmp_path_factory.getbasetemp() / f"any.{ending}"
    if framed:
        content = {
            "csv": b"user,item\n" + content,
            "tsv": b"user\titem\n" + content,
            "csv.gz": gzip.compress(b"user,item\n" + content),
            "parquet": b"PAR1" + content + b"PAR1",
        }[ending]
    path.write_bytes(content)
    try:
        found = files.read_interactions(path, **IDS)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert len(found)


def test_a_parquet_file_cut_anywhere_is_refused(tmp_path):
    whole = write_parquet(tmp_path / "whole.parquet", user=[1, 2], item=["a", "b"]).read_bytes()
    path = tmp_path / "cut.parquet"
    for length in range(1, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match=re.escape(f"{path} is not a readable Parquet file")):
            files.read_interactions(path, **IDS)


def test_parquet_text_that_is_not_utf8_is_refused(tmp_path):
    text = pa.array([b"a", b"\xe9"]).view(pa.string())
    path = write_parquet(tmp_path / "events.parquet", user=text, item=[1, 2])
    with pytest.raises(DataError, match="events.parquet is not a readable Parquet file: .*UTF8"):
        files.read_interactions(path, **IDS)


def test_ratings_and_timestamps_are_absent_unless_named(tmp_path):
    path = write_delimited(tmp_path / "events.csv", ["user", "item", "rating"], [[1, 2, "not read"]])
    found = files.read_interactions(path, **IDS)
    assert (found.ratings, found.timestamps) == (None, None)


def test_one_column_cannot_have_two_roles(tmp_path):
    path = write_delimited(tmp_path / "events.csv", ["user", "item"], [[1, 2]])
    with pytest.raises(DataError, match="need a column each, got .'user', 'user'"):
        files.read_interactions(path, query_id="user", candidate_id="user")


def test_text_that_reads_as_integers_gives_integer_ids_in_every_format(tmp_path):
    text = write_delimited(tmp_path / "events.csv", ["user", "item"], [["1", "007"], ["2", "8"]])
    parquet = write_parquet(tmp_path / "events.parquet", user=["1", "2"], item=["007", "8"])
    found = files.read_interactions(parquet, **IDS)
    assert found.fingerprint() == files.read_interactions(text, **IDS).fingerprint()
    assert (found.query_ids.tolist(), found.candidate_ids.tolist()) == ([1, 2], ["007", "8"])


def test_parquet_types_that_mean_the_same_are_read_the_same(tmp_path):
    plain = write_parquet(tmp_path / "plain.parquet", user=["a", "b"], item=[1, 2], rating=[1.5, 2.25], time=[1, 2])
    other = write_parquet(
        tmp_path / "other.parquet",
        user=pa.array(["a", "b"]).dictionary_encode(),
        item=pa.array([1, 2], pa.uint8()),
        rating=[decimal.Decimal("1.50"), decimal.Decimal("2.25")],
        time=pa.array([1_000_000, 2_000_000], pa.timestamp("us")),
    )
    expected = files.read_interactions(plain, **ROLES).fingerprint()
    assert files.read_interactions(other, **ROLES).fingerprint() == expected


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"user": [1, None]}, "row 2, column 'user': missing id, got None; give every row an id"),
        ({"user": ["a", ""]}, "row 2, column 'user': missing id, got ''"),
        (
            {"user": pa.array([1, 2**63], pa.uint64())},
            "row 2, column 'user': id out of range, got 9223372036854775808",
        ),
        (
            {"user": [1.0, 2.0]},
            "the column is double, got 1.0; write them as integers or text, in pandas: df['user']",
        ),
        ({"user": [[1], [2]]}, "row 1, column 'user': ids must be integers or text, the column is list<"),
        ({"rating": [1.0, None]}, "row 2, column 'rating': missing rating, got None"),
        ({"rating": [1.0, np.nan]}, "row 2, column 'rating': rating is not finite, got nan"),
        ({"rating": [1.0, 1e60]}, "row 2, column 'rating': rating is not finite, got 1e+60"),
        ({"rating": [True, False]}, "row 1, column 'rating': a rating must be a number, the column is bool"),
        ({"rating": ["1", "one"]}, "row 2, column 'rating': rating is not a number, got 'one'"),
        ({"time": [1, -1]}, "row 2, column 'time': timestamp out of range, got -1"),
        (
            {"time": [datetime.datetime(2000, 1, 1), None]},
            "row 2, column 'time': missing timestamp, got None",
        ),
        ({"user": []}, "has no rows; add rows or leave the file out"),
    ],
)
def test_a_wrong_value_in_parquet_is_named_with_row_column_and_remedy(tmp_path, columns, message):
    complete = {"user": [1, 2], "item": [3, 4], "rating": [1.0, 2.0], "time": [0, 1]}
    if columns == {"user": []}:
        complete = {name: [] for name in complete}
    path = write_parquet(tmp_path / "events.parquet", **{**complete, **columns})
    with pytest.raises(DataError, match=re.escape(message)) as error:
        files.read_interactions(path, **ROLES)
    assert str(error.value).startswith(str(path))


def test_a_missing_parquet_column_is_named_with_those_found(tmp_path):
    path = write_parquet(tmp_path / "events.parquet", usr=[1], item=[2])
    with pytest.raises(DataError, match="no column 'user', got 'usr', 'item'; did you mean 'usr'"):
        files.read_interactions(path, **IDS)


def test_a_missing_file_is_named_with_its_nearest_neighbour(tmp_path):
    write_delimited(tmp_path / "ratings.csv", ["user", "item"], [[1, 2]])
    with pytest.raises(DataError, match="rating.csv does not exist; did you mean 'ratings.csv'"):
        files.read_interactions(tmp_path / "rating.csv", **IDS)
    with pytest.raises(DataError, match="none/ratings.csv does not exist, nor does its folder"):
        files.read_interactions(tmp_path / "none" / "ratings.csv", **IDS)


@pytest.mark.parametrize("name", ["events.csv", "events.parquet"])
def test_an_empty_file_and_a_folder_are_refused(tmp_path, name):
    (tmp_path / name).touch()
    with pytest.raises(DataError, match=f"{name} is empty"):
        files.read_interactions(tmp_path / name, **IDS)
    with pytest.raises(DataError, match="is a folder"):
        files.read_interactions(tmp_path, **IDS)


def test_an_unknown_ending_is_named_with_those_known(tmp_path):
    path = write_delimited(tmp_path / "events.txt", ["user", "item"], [[1, 2]])
    with pytest.raises(DataError, match=r"got the ending '.txt'; write one of .csv, .tsv, .csv.gz"):
        files.read_interactions(path, **IDS)


def test_a_truncated_gzip_file_is_refused(tmp_path):
    path = write_delimited(tmp_path / "events.csv.gz", ["user", "item"], [[n, n] for n in range(1000)])
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="events.csv.gz cannot be read: .*; restore the file"):
        files.read_interactions(path, **IDS)


def test_a_table_has_numbers_as_numbers_and_the_rest_as_text(tmp_path):
    rows = [[7, "A, b", 30, "00501", "", 1995], [8, 'c\n"d"', "", "1", 0.5, 1996]]
    names = ["item", "title", "age", "zip", "score", "year"]
    table = files.read_table(write_delimited(tmp_path / "items.csv", names, rows), "item")
    assert table.ids.tolist() == [7, 8]
    assert list(table.columns) == names[1:]
    assert table.columns["title"].tolist() == ["A, b", 'c\n"d"']
    assert table.columns["zip"].tolist() == ["00501", "1"]
    assert to_list(table.columns["age"]) == [30, None]
    np.testing.assert_array_equal(table.columns["score"], [np.nan, 0.5])
    assert table.columns["year"].tolist() == [1995, 1996] and table.columns["year"].dtype == np.int64


def test_a_parquet_table_keeps_lists_booleans_and_integers(tmp_path):
    path = write_parquet(
        tmp_path / "items.parquet",
        item=["a", "b"],
        genres=[["War", "Drama"], None],
        years=pa.array([[1990, 1991], []], pa.large_list(pa.int16())),
        count=[1, None],
        price=[decimal.Decimal("1.50"), None],
        new=[True, None],
        day=[datetime.date(2020, 1, 2), None],
        nothing=pa.nulls(2),
        **{"a.b": [1, 2]},
    )
    columns = files.read_table(path, "item").columns
    assert columns["genres"].tolist() == [("War", "Drama"), ()]
    assert columns["years"].tolist() == [("1990", "1991"), ()]
    assert to_list(columns["new"]) == [True, None]
    assert columns["day"].tolist() == ["2020-01-02", ""]
    assert columns["nothing"].tolist() == ["", ""]
    assert columns["a.b"].tolist() == [1, 2]
    assert to_list(columns["count"]) == [1, None]
    np.testing.assert_array_equal(columns["price"], [1.5, np.nan])


@pytest.mark.parametrize(
    "kind", [pa.list_(pa.float64()), pa.large_list(pa.float32()), pa.list_(pa.float32(), 2), pa.list_(pa.float16())]
)
def test_a_parquet_table_has_lists_of_floats_as_vectors(tmp_path, kind):
    vectors = pa.array([np.array([0.5, -2], np.float16), None, np.array([np.nan, 4], np.float16)], kind)
    path = write_parquet(tmp_path / "items.parquet", item=[1, 2, 3], vector=vectors)
    found = files.read_table(path, "item").columns["vector"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[0.5, -2], [np.nan, np.nan], [np.nan, 4]])


def test_lists_of_floats_of_different_lengths_are_lists_of_text(tmp_path):
    weights = pa.array([[0.5, 2], None, [1e-7], []], pa.list_(pa.float64()))
    path = write_parquet(tmp_path / "items.parquet", item=[1, 2, 3, 4], weights=weights)
    assert files.read_table(path, "item").columns["weights"].tolist() == [("0.5", "2"), (), ("1e-7",), ()]


def test_vectors_that_are_all_missing_have_no_length(tmp_path):
    path = write_parquet(tmp_path / "items.parquet", item=[1, 2], vector=pa.array([None, []], pa.list_(pa.float32())))
    assert files.read_table(path, "item").columns["vector"].shape == (2, 0)


def test_lists_of_a_fixed_size_are_lists_like_any_other(tmp_path):
    path = write_parquet(tmp_path / "items.parquet", item=[1, 2], x=pa.array([[1, 2], None], pa.list_(pa.int8(), 2)))
    assert files.read_table(path, "item").columns["x"].tolist() == [("1", "2"), ()]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            [["War", None], None],
            "row 1, column 'x': a list with a missing element, got ['War', None]; drop the",
        ),
        ([[[1]], [[2]]], "column 'x': a column of type list<"),
        ([{"a": 1}, {"a": 2}], "a column of type struct<a: int64> is not an attribute"),
        (
            pa.array([1, 2**63], pa.uint64()),
            "row 2, column 'x': number out of range, got 9223372036854775808",
        ),
    ],
)
def test_what_is_no_attribute_is_refused(tmp_path, column, message):
    path = write_parquet(tmp_path / "items.parquet", item=range(len(column)), x=column)
    with pytest.raises(DataError, match=re.escape(message)):
        files.read_table(path, "item")


def test_a_repeated_id_is_named_with_both_places(tmp_path):
    path = write_delimited(tmp_path / "items.csv", ["item", "title"], [[1, "a\nb"], [2, "c"], [1, "d"]])
    message = r"items.csv, line 5, column 'item': repeated id, got '1'; line 2 has it too"
    with pytest.raises(DataError, match=message):
        files.read_table(path, "item")


def test_a_table_needs_its_id_column(tmp_path):
    path = write_delimited(tmp_path / "items.csv", ["item", "title"], [[1, "a"]])
    with pytest.raises(DataError, match="no column 'item_id', got 'item', 'title'; did you mean 'item'"):
        files.read_table(path, "item_id")
