"""Delimited text gives its columns, or an error that says where it is wrong."""

import csv
import gzip
import io
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.common.errors import DataError
from retrieval.data.columns import MISSING_TEXTS
from retrieval.data.readers import arrow as convert
from retrieval.data.readers import delimited
from retrieval.data.readers.delimited import Source, read
from retrieval.data.times import LATEST

HEADER = "user,item,rating,time"
NAMES = HEADER.split(",")
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)
FINITE = st.floats(0, 2.0**100, width=32)
SECONDS = st.integers(0, LATEST).filter(lambda time: not 19_700_101 <= time <= 21_001_231)  # no 20240131


def source(content: str | bytes, delimiter: str = ",", header: tuple[str, ...] = (), quoted: bool = True):
    content = content.encode() if isinstance(content, str) else content
    return Source("file.csv", lambda: io.BytesIO(content), delimiter, header, quoted)


def columns(*rows: str):
    return read(source("\n".join([HEADER, *rows])), NAMES)


def convert_all(content: bytes):
    user, item, rating, time = read(source(content), NAMES).values()
    return convert.to_ids(user), convert.to_ids(item), convert.to_ratings(rating), convert.to_times(time).seconds


def is_canonical(text: str) -> bool:
    return re.fullmatch("0|[1-9][0-9]*", text, re.ASCII) is not None and int(text) < 2**63


@settings(deadline=None)
@given(
    st.lists(st.tuples(TEXT, st.integers(0, 2**63 - 1), FINITE, SECONDS), min_size=1),
    st.sampled_from(",\t;|"),
)
def test_what_csv_writes_is_read_back(rows, delimiter):
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows([NAMES, *rows])
    user, item, rating, time = read(source(text.getvalue(), delimiter), NAMES).values()
    names, ids, ratings, times = zip(*rows, strict=True)
    assert convert.to_text(user).tolist() == list(names)
    np.testing.assert_array_equal(convert.to_ids(item), ids)
    np.testing.assert_array_equal(convert.to_ratings(rating), np.array(ratings, np.float32))
    np.testing.assert_array_equal(convert.to_times(time).seconds, times)


GIVEN = TEXT.filter(lambda text: text == text.strip() and text not in MISSING_TEXTS)  # blanks are refused
IDS = st.one_of(GIVEN, st.integers(0, 2**64).map(str), st.from_regex(r"\A[+-]?0x?[0-9]+\Z"))


@settings(deadline=None)
@given(st.lists(IDS, min_size=1))
def test_ids_are_integers_only_if_all_are_written_as_integers(ids):
    text = io.StringIO()
    csv.writer(text).writerows([["id"], *([value] for value in ids)])
    (column,) = read(source(text.getvalue()), ["id"]).values()
    if all(is_canonical(value) for value in ids):
        assert convert.to_ids(column).tolist() == [int(value) for value in ids]
    elif not all(re.fullmatch(r"-?[0-9]+(\.0)?", value) for value in ids):
        assert convert.to_ids(column).tolist() == ids


@settings(deadline=None, max_examples=150)
@given(st.one_of(st.binary(), st.text('",\r\n01a.-\ufeff', max_size=40).map(str.encode)))
def test_any_bytes_are_data_or_a_value_error(content):
    for start in (b"", HEADER.encode() + b"\n"):
        try:
            ids, *_ = convert_all(start + content)
        except ValueError as error:
            assert "file.csv" in str(error)
        else:
            assert len(ids)


@settings(deadline=None, max_examples=150)
@given(st.text('a",\r\n', min_size=1, max_size=24), st.booleans())
def test_the_exact_reader_of_the_error_path_sees_the_same_rows(text, quoted):
    width = len(next(source(text, quoted=quoted).records(), (1, [""]))[1])
    table = source(text, header=tuple(map(str, range(width))), quoted=quoted)
    try:
        found = read(table, table.header)
    except DataError:
        return
    rows = zip(*(column.values.to_pylist() for column in found.values()), strict=True)
    assert [list(row) for row in rows] == [fields for _, fields in table.records()]


@settings(deadline=None)
@given(
    st.lists(st.text('a",\n é', max_size=6), min_size=1, max_size=12),
    st.data(),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["x", "", "nan", "-1", "1e99"]),
)
def test_an_error_names_the_line_where_the_wrong_row_starts(titles, data, end, wrong):
    bad = data.draw(st.integers(0, len(titles) - 1))
    text = io.StringIO()
    rows = csv.writer(text, lineterminator=end)
    rows.writerow(["title", "rating"])
    for row, title in enumerate(titles):
        if row == bad:
            line = text.getvalue().count("\n") + 1
        rows.writerow([title, wrong if row == bad else "1.5"])
    column = read(source(text.getvalue()), ["rating"])["rating"]
    with pytest.raises(DataError, match=rf"^file.csv, line {line}, column 'rating': .*, got {wrong!r}; "):
        convert.to_ratings(column)


@pytest.mark.parametrize(
    "content",
    [
        "user,item,rating,time\n1,2,3,4\n5,6,7.5,8\n",
        "user,item,rating,time\n1,2,3,4\n5,6,7.5,8",
        "user,item,rating,time\r\n1,2,3,4\r\n5,6,7.5,8\r\n",
        "user,item,rating,time\r1,2,3,4\r5,6,7.5,8\r",
        "\ufeffuser,item,rating,time\n1,2,3,4\n5,6,7.5,8\n",
        "\n\nuser,item,rating,time\n1,2,3,4\n\n5,6,7.5,8\n\n",
        '"user","item","rating","time"\n"1","2","3","4"\n5,6,"7.5",8\n',
        "time,title,rating,user,item\n4.0,x,3,1,2\n8e0,y,7.5,5,6\n",
        'user,item,rating,time,"a\ntitle"\n1,2,3,4,"a\nb, ""c"""\n5,6,7.5,8,\n',
    ],
)
def test_every_way_to_write_the_same_rows_gives_the_same_columns(content):
    users, items, ratings, times = convert_all(content.encode())
    assert (users.tolist(), items.tolist()) == ([1, 5], [2, 6])
    assert (ratings.tolist(), times.tolist()) == ([3.0, 7.5], [4, 8])
    assert (ratings.dtype, times.dtype) == (np.float32, np.int64)


def test_bytes_of_another_encoding_matter_only_in_a_column_that_is_read():
    content = b"user,title\n1,caf\xe9\n"
    assert read(source(content), ["user"])["user"].values.to_pylist() == ["1"]
    with pytest.raises(DataError, match="^file.csv, line 2: not UTF-8, got .*; save the file as UTF-8"):
        read(source(content), ["title"])


def test_without_quoting_a_quote_is_a_character():
    assert read(source('5" disc|2\n', "|", ("title", "n"), quoted=False), ["title"])["title"].values.to_pylist() == [
        '5" disc'
    ]


def test_a_quote_within_an_unquoted_field_is_a_character():
    assert columns('5" disc,2,3,4')["user"].values.to_pylist() == ['5" disc']


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "file.csv holds blank lines only; it needs a header and rows"),
        ("\n\r\n", "file.csv holds blank lines only; it needs a header and rows"),
        ("user,item,rating,time\n", "file.csv has a header and no rows; add rows"),
        (
            "user,item,raitng,time\n1,2,3,4",
            "file.csv, line 1: no column 'rating', got 'user', 'item', 'raitng', 'ti",
        ),
        ("user,item,raitng,time\n1,2,3,4", "; did you mean 'raitng'?"),
        ("\nuser,item,stars,time\n1,2,3,4", "file.csv, line 2: no column 'rating'"),
        ("user,item,rating,rating,time\n1,2,3,4,5", "line 1: 2 columns 'rating', got"),
        (
            "196,242,3,881250949\n186,302,3,891717742",
            "line 1: values where names are expected, got ['196', '242'",
        ),
        ("user;item;rating;time\n1;2;3;4", "line 1: one column when divided by commas, 4 by semicolons"),
        ("user\titem\trating\ttime\n1\t2\t3\t4", "one column when divided by commas, 4 by tabs"),
        (
            "user,item,rating,time\n1,2,3,4\n\n1,2,3\n",
            "line 4: expected 4 fields, found 3, got ['1', '2', '3']",
        ),
        ('user,item,rating,time\n"1\n",2,3,4\n1,2,3,4,5', "line 4: expected 4 fields, found 5"),
        (
            'user,item,rating,time\n1,2,3,4\n1,"2,3,4\n1,2,3,4\n',
            "line 3: a quote is not closed, got '1,2,3,4",
        ),
        (f'user,item,rating,time\n1,"{"2" * 200_000}', "line 2: a quote is not closed, got '1,222"),
        (f'user,item,rating,time\n1,2,3,"{"2" * 200_000}"\n1,2,3\n', "line 3: expected 4 fields, found 3"),
        ("user item rating time\n1 2 3 4\n", "line 1: one column when divided by commas, 4 by blanks, got 'user item"),
        (b"user,item,rating,time\n1,2,3,4\n1,\xe9,3,4\n", "line 3: not UTF-8, got b'"),
        (b"us\xe9r,item,rating,time\n1,2,3,4\n", "line 1: not UTF-8, got b'us\\xe9r"),
        (
            "user,item,rating,time\n1,2,3,4\n".encode("utf-16"),
            "line 1: the file is UTF-16; save it as UTF-8, got",
        ),
        (
            "user,item,rating,time\n1,2,3,4\n".encode("utf-16-le"),
            "line 1: the file is UTF-16 without its mark, or no",
        ),
        (
            "user,item,rating,time\n1,2,3,4\n".encode("utf-16-be"),
            "line 1: the file is UTF-16 without its mark, or no",
        ),
        (
            gzip.compress(b"user,item,rating,time\n1,2,3,4\n", mtime=0),
            "line 1: the file is compressed by gzip; end its name in",
        ),
        (b"PK\3\4\x14\0", "line 1: the file is a zip archive or a workbook; save its sheet as CSV"),
    ],
)
def test_a_file_that_is_no_table_is_named_with_line_value_and_remedy(content, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read(source(content), NAMES)


def test_a_row_that_speaks_of_text_is_counted_and_a_row_beyond_a_block_is_said_to_be_long(monkeypatch):
    with pytest.raises(DataError, match="line 3: expected 4 fields, found 5, got"):
        read(source(f"{HEADER}\n1,2,3,4\ninvalid UTF8,2,3,4,5\n"), NAMES)
    monkeypatch.setattr(delimited, "BLOCK", 64)
    names = list("abcdefghijklmnopqrstuvwxyz")  # 52 bytes
    with pytest.raises(DataError, match="a row is longer than 0 MiB; close its quotes, or shorten it"):
        read(source("\n".join([",".join(names), ",".join(["100"] * 26)])), names)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (",2,3,4", "line 3, column 'user': missing id, got ''; give every row an id or drop the row"),
        (" ,2,3,4", "column 'user': missing id, got ' '"),
        ("1,a\0,3,4", "column 'item': id with a NUL character, got 'a\\x00'"),
        ("1,2,,4", "column 'rating': missing rating, got ''"),
        ("1,2,good,4", "column 'rating': rating is not a number, got 'good'; write a finite number"),
        ("1,2,inf,4", "column 'rating': rating is not finite, got 'inf'"),
        ("1,2,NaN,4", "column 'rating': missing rating, got 'NaN'"),
        ("1,2,-0.5,4", "column 'rating': rating out of range, got '-0.5'; use ratings from 0 up"),
        ("1,2,3,", "column 'time': missing timestamp, got ''"),
        ("1,2,3,nan", "column 'time': missing timestamp, got 'nan'"),
        ("1,2,3,0x10", "column 'time': timestamp is not a number, got '0x10'"),
        ("1,2,3,2020-01-01", "column 'time': timestamp is not a number, got '2020-01-01'"),
        ("1,2,3,-1", "column 'time': timestamp out of range, got '-1'; use Unix seconds"),
        (
            "1,2,3,881250949000",
            "timestamp in milliseconds where seconds are read, got '881250949000'; set data.columns.timestamp_unit=ms",
        ),
    ],
)
def test_a_wrong_value_is_named_with_line_column_and_remedy(row, message):
    with pytest.raises(DataError, match=re.escape(message)):
        convert_all(f"{HEADER}\n1,2,3,4\n{row}\n1,2,3,4".encode())


def test_ids_written_as_fractions_are_refused_with_what_to_do():
    with pytest.raises(DataError, match=r"line 2, column 'user': ids written as fractions, got '1.0'; .*astype"):
        convert.to_ids(columns("1.0,2,3,4", "2.0,2,3,4")["user"])


def test_a_rating_outside_the_published_range_is_refused():
    with pytest.raises(DataError, match="line 3, column 'rating': .*, got '5.5'; use ratings from 0.5 to 5"):
        convert.to_ratings(columns("1,2,0.5,4", "1,2,5.5,4")["rating"], 0.5, 5.0)


def test_integer_ids_refuse_text():
    with pytest.raises(DataError, match="line 3, column 'user': not an integer id, got '07'"):
        convert.to_integer_ids(columns("1,2,3,4", "07,2,3,4")["user"])
