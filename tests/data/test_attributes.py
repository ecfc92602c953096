"""Columns of files as attributes: each type of CSV and Parquet is read as what it means, or is named."""

import decimal
import gzip
import logging
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.common.errors import DataError
from retrieval.data.columns import to_list, type_of
from retrieval.data.interactions import Table
from retrieval.data.joined_values import join_values, split_values
from retrieval.data.out_of_core import stored
from retrieval.data.readers import files
from retrieval.data.readers.arrow import Column
from retrieval.data.readers.arrow_types import simplified
from retrieval.data.readers.attributes import to_attribute
from retrieval.index import Filter, Filters

LARGE = 2**53 + 3
D = decimal.Decimal
BYTES = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8()))
CATEGORIES = pa.dictionary(pa.int8(), pa.string())


def read(values):
    return to_attribute(Column("items.csv", "x", pa.chunked_array([values[:1], values[1:]]), "line {}".format))


@pytest.mark.parametrize(
    ("texts", "kind", "expected"),
    [
        (["1", "-2"], "integers", [1, -2]),
        (["1", ""], "integers", [1, None]),
        ([str(LARGE), "", str(-(2**63))], "integers", [LARGE, None, -(2**63)]),
        ([" 1", "2 "], "integers", [1, 2]),
        (["1.5", "-2e3"], "numbers", [1.5, -2000.0]),
        (["12.0", "12"], "numbers", [12.0, 12.0]),
        (["NA", "1"], "integers", [None, 1]),
        (["-", "1"], "integers", [None, 1]),
        (["null", "NaN", "", "7"], "integers", [None, None, None, 7]),
        (["true", "False", ""], "booleans", [True, False, None]),
        (["TRUE", "N/A"], "booleans", [True, None]),
        (["1", "0"], "integers", [1, 0]),
        (["true", "1"], "text", ["true", "1"]),
        (["yes", "no"], "text", ["yes", "no"]),
        (["NA", "-"], "text", ["NA", "-"]),
        (["", ""], "text", ["", ""]),
        (["NA", "Comedy"], "text", ["NA", "Comedy"]),
        (["00501", "10001"], "text", ["00501", "10001"]),
        (["1", "x"], "text", ["1", "x"]),
        (["inf", "1"], "text", ["inf", "1"]),
        (["1_0", "2"], "text", ["1_0", "2"]),
        (["\u0661", "2"], "text", ["\u0661", "2"]),
        (["12345678901234567890", "1"], "text", ["12345678901234567890", "1"]),
        ([str(LARGE), "0.5"], "text", [str(LARGE), "0.5"]),
        ([r"a\|b|c", "d"], "text", [r"a\|b|c", "d"]),
    ],
)
def test_text_is_read_in_the_type_of_all_its_values(texts, kind, expected):
    found = read(texts)
    assert type_of(found) == kind and to_list(found) == expected


def test_spellings_of_missing_values_are_told_once_with_count_and_place(caplog):
    with caplog.at_level(logging.WARNING):
        read(["1", "", "NA", "-", "4"])
    (record,) = caplog.records
    assert record.getMessage() == "items.csv, column 'x': 2 values are taken as missing, the first 'NA' in line 2"


def test_a_few_values_that_make_a_column_text_are_told(caplog):
    with caplog.at_level(logging.WARNING):
        read([*map(str, range(30)), "12 EUR", "", "-inf"])
        read(["1", "x", "y"])  # this one is text
        read(["a", ""])
    (record,) = caplog.records
    assert "column 'x' is text, as 2 of 32 values are no numbers, the first '12 EUR' in line 30;" in record.getMessage()


TYPES = {
    "string_view": (pa.array(["a|b", None], pa.string_view()), "text", ["a|b", ""]),
    "large_string": (pa.array(["a", None], pa.large_string()), "text", ["a", ""]),
    "categories": (pa.array(["a", None]).dictionary_encode(), "text", ["a", ""]),
    "categories of views": (pa.array(["a", None], pa.string_view()).dictionary_encode(), "text", ["a", ""]),
    "categories of integers": (pa.array([LARGE, None]).dictionary_encode(), "integers", [LARGE, None]),
    "run-end encoded": (pc.run_end_encode(pa.array([LARGE, None])), "integers", [LARGE, None]),
    "half": (pa.array(np.array([0.5, -2], np.float16)), "numbers", [0.5, -2]),
    "float": (pa.array([0.1, None], pa.float32()), "numbers", [float(np.float32(0.1)), np.nan]),
    "decimal": (pa.array([D("1.25"), None], pa.decimal128(10, 2)), "numbers", [1.25, np.nan]),
    "wide decimal": (pa.array([D("1.25"), None], pa.decimal256(50, 2)), "numbers", [1.25, np.nan]),
    "short decimal": (pa.array([D("1.25"), None], pa.decimal32(5, 2)), "numbers", [1.25, np.nan]),
    "whole decimal": (pa.array([D(LARGE), None], pa.decimal128(20, 0)), "integers", [LARGE, None]),
    "unsigned": (pa.array([2**63 - 1, None], pa.uint64()), "integers", [2**63 - 1, None]),
    "short": (pa.array([-128, None], pa.int8()), "integers", [-128, None]),
    "booleans": (pa.array([True, None]), "booleans", [True, None]),
    "booleans of a byte": (
        pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0], pa.int8())),
        "booleans",
        [True, False],
    ),
    "list": (pa.array([["a|b", " c"], None]), "lists of text", [["a|b", " c"], []]),
    "view of lists": (pa.array([["a"], None], pa.list_view(pa.string())), "lists of text", [["a"], []]),
    "large list": (pa.array([["a"], []], pa.large_list(pa.string())), "lists of text", [["a"], []]),
    "list of views": (pa.array([["a"], None], pa.list_(pa.string_view())), "lists of text", [["a"], []]),
    "list of categories": (
        pa.array([["a"], None], pa.list_(pa.dictionary(pa.int8(), pa.string()))),
        "lists of text",
        [["a"], []],
    ),
    "list of integers": (pa.array([[LARGE, 2], None]), "lists of text", [[str(LARGE), "2"], []]),
    "list of decimals": (pa.array([[D("1.5")], None]), "lists of text", [["1.5"], []]),
    "list of booleans": (pa.array([[True], None]), "lists of text", [["true"], []]),
    "time": (pa.array([1, None], pa.time32("s")), "text", ["00:00:01.000", ""]),
}


@pytest.mark.parametrize("name", TYPES)
def test_a_parquet_column_is_read_as_what_it_means(tmp_path, name):
    values, kind, expected = TYPES[name]
    if name in ("run-end encoded", "categories of views"):  # which pyarrow does not write
        found = to_attribute(Column("x", "x", simplified(pa.chunked_array([values])), str))
    else:
        pq.write_table(pa.table({"item": [1, 2], "x": values}), tmp_path / "items.parquet")
        found = files.read_table(tmp_path / "items.parquet", "item").columns["x"]
    assert type_of(found) == kind
    np.testing.assert_equal(to_list(found), expected)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            pa.array([b"a", None], pa.binary_view()),
            "a column of type binary_view is not an attribute, got b'a'; drop it, or write",
        ),
        (pa.array([b"a", None]), "a column of type binary is not an attribute"),
        (pa.array([b"0" * 16, None], pa.uuid()), "a column of type fixed_size_binary[16] is not an attribute"),
        (pa.array([1, None], pa.duration("s")), "a column of type duration[s] is not an attribute"),
        (pa.array([D("0.12345678901234567"), None]), "row 1, column 'x': a decimal of more digits than float64 has"),
        (
            pa.array([None, D("1" * 75)], pa.decimal256(76, 1)),
            "row 2, column 'x': a decimal of more digits than float64",
        ),
        (pa.array([D(2**63), None]), "row 1, column 'x': number out of range"),
        (pa.array([1, 2**63], pa.uint64()), "row 2, column 'x': number out of range, got 9223372036854775808"),
        (pa.array(["a", "b\0"]), "row 2, column 'x': text with a NUL character, got 'b\\x00'; remove it"),
        (pa.array([["a"], ["b\0"]]), "row 2, column 'x': text with a NUL character"),
        (pa.array([["a"], [None]]), "row 2, column 'x': a list with a missing element"),
    ],
)
def test_a_parquet_column_that_is_no_attribute_is_named_with_what_to_do(tmp_path, values, message):
    pq.write_table(pa.table({"item": [1, 2], "x": values}), tmp_path / "items.parquet")
    with pytest.raises(DataError, match=re.escape(message)):
        files.read_table(tmp_path / "items.parquet", "item")


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)


@given(st.lists(st.text("ab|\\ \t\n") | TEXT))
def test_joined_values_are_divided_into_the_same(values):
    assert split_values(join_values(values)) == values


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(TEXT.filter(str.strip), max_size=3), min_size=1, max_size=5))
def test_a_value_of_a_list_is_found_by_itself_from_parquet_and_from_joined_text(rows):
    lists = Column("x", "x", pa.chunked_array([pa.array(rows, pa.list_(pa.string()))]), str)
    joined = [join_values(row) for row in rows]
    ids, texts = np.arange(len(rows)), np.array(joined)
    for column in (to_attribute(lists), rows, texts):
        filters = Filters(Table(ids, {"tags": column}))
        for value in {value for row in rows for value in row}:
            found = set(filters.subset(Filter(one_of={"tags": [value]})).positions.tolist())
            also = {i for i in ids.tolist() if joined[i] == value} if np.ndim(column[0]) == 0 else set()
            assert found == {i for i in ids.tolist() if value in rows[i]} | (
                also if isinstance(column[0], str) else set()
            )


def flipped(path, index):
    content = bytearray(path.read_bytes())
    content[index // 8] ^= 1 << index % 8
    path.write_bytes(content)


def test_a_flipped_bit_in_a_parquet_page_with_a_checksum_is_found(tmp_path):
    ids = np.random.default_rng(0).integers(0, 2**40, 1000)
    table = pa.table({"user": ids, "item": ids})
    path = tmp_path / "events.parquet"
    pq.write_table(table, path, write_page_checksum=True, compression="none", use_dictionary=False)
    start = path.read_bytes().index(ids[100].tobytes())
    flipped(path, 8 * start + 3)
    with pytest.raises(DataError, match="events.parquet is not a readable Parquet file: .*; write it again"):
        files.read_interactions(path, query_id="user", candidate_id="item")
    with pytest.raises(DataError, match="events.parquet is not a readable Parquet file: .*; write it again"):
        stored.encode(str(path), tmp_path / "cache", query_id="user", candidate_id="item")


@pytest.mark.parametrize("ending", [".CSV", ".Csv.Gz", ".CSV.GZ", ".TSV.GZ", ".PARQUET"])
def test_the_ending_of_a_file_is_read_in_any_case(tmp_path, ending):
    path = tmp_path / f"EVENTS{ending}"
    content = b"user\titem\n1\t7\n" if "TSV" in ending else b"user,item\n1,7\n"
    if ending == ".PARQUET":
        pq.write_table(pa.table({"user": [1], "item": [7]}), path)
    else:
        path.write_bytes(gzip.compress(content) if ending.lower().endswith(".gz") else content)
    assert files.read_interactions(path, query_id="user", candidate_id="item").candidate_ids.tolist() == [7]


def test_a_field_may_be_long(tmp_path):
    path = tmp_path / "items.csv"
    path.write_text(f'item,text\n1,"{"long " * 100_000}"\n2,short\n2,again\n')
    with pytest.raises(DataError, match="items.csv, line 4, column 'item': repeated id, got '2'; line 3 has it too"):
        files.read_table(path, "item")
    path.write_text(f"item,text\n1,{'x' * 200_000}\n")
    assert len(files.read_table(path, "item").columns["text"][0]) == 200_000
