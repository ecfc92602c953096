"""A vocabulary gives every known id a row of its own, and row 0 to the others."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.data.vocabulary import UNKNOWN_ROW, Vocabulary

integers = st.lists(st.integers(-(2**63), 2**63 - 1))
strings = st.lists(st.text(st.characters(exclude_characters="\0")))  # of any alphabet
ids = integers | strings


@settings(deadline=None)
@given(ids)
def test_known_ids_come_back_from_their_rows(ids):
    vocabulary = Vocabulary(ids)
    assert vocabulary.ids_of(vocabulary.rows(ids)).tolist() == ids


@settings(deadline=None)
@given(ids)
def test_rows_follow_the_order_of_the_ids(ids):
    vocabulary = Vocabulary(ids)
    assert vocabulary.rows(sorted(set(ids))).tolist() == list(range(1, vocabulary.num_rows))


@settings(deadline=None)
@given(ids, st.randoms())
def test_neither_order_nor_repeats_change_the_rows(ids, random):
    again = ids + ids[:2]
    random.shuffle(again)
    assert Vocabulary(again).rows(ids).tolist() == Vocabulary(ids).rows(ids).tolist()


@settings(deadline=None)
@given(integers, integers)
def test_unknown_integers_get_row_zero(known, asked):
    rows = Vocabulary(known).rows(asked)
    assert [row == UNKNOWN_ROW for row in rows] == [one not in known for one in asked]


@settings(deadline=None)
@given(strings, strings)
def test_unknown_strings_get_row_zero(known, asked):
    rows = Vocabulary(known).rows(asked)
    assert [row == UNKNOWN_ROW for row in rows] == [one not in known for one in asked]


def test_an_id_longer_than_all_known_ones_is_unknown():
    assert Vocabulary(["ab", "b"]).rows(["abc", "ab", "a"]).tolist() == [0, 1, 0]


def test_an_empty_vocabulary_knows_nobody():
    assert Vocabulary([]).rows(["a", "b"]).tolist() == [0, 0]
    assert Vocabulary([]).rows([7]).tolist() == [0]


@pytest.mark.parametrize(("known", "asked"), [([1, 2], ["1"]), (["1", "2"], [1])])
def test_ids_of_another_type_are_refused(known, asked):
    with pytest.raises(ValueError, match=f"{asked[0]!r}.*known ids are"):
        Vocabulary(known).rows(asked)


@pytest.mark.parametrize("row", [UNKNOWN_ROW, 3, -1])
def test_a_row_without_an_id_is_named(row):
    with pytest.raises(ValueError, match=rf"rows must be in \[1, 3\), got .*{row}"):
        Vocabulary(["a", "b"]).ids_of([1, row])


def test_text_becomes_an_id_of_the_vocabularys_type():
    assert Vocabulary(["7", "x"]).parse("7") == "7"
    assert Vocabulary([7, 8]).parse("7") == 7


def test_text_that_is_no_integer_is_named_where_ids_are_integers():
    with pytest.raises(ValueError, match="integers, got '7x'"):
        Vocabulary([7, 8]).parse("7x")


@settings(deadline=None)
@given(ids)
def test_a_vocabulary_comes_back_from_json(ids):
    vocabulary = Vocabulary(ids)
    again = Vocabulary.from_json(vocabulary.to_json())
    assert again.ids.tolist() == vocabulary.ids.tolist() == sorted(set(ids))
    assert again.ids.dtype.kind == vocabulary.ids.dtype.kind


def test_json_keeps_whether_ids_are_numbers_or_digits():
    assert Vocabulary.from_json(Vocabulary(["1", "2"]).to_json()).rows(["2"]).tolist() == [2]
    assert Vocabulary.from_json(Vocabulary([1, 2]).to_json()).rows([2]).tolist() == [2]


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"type": "int"},
        {"type": "float", "ids": [1.5]},
        {"type": ["int"], "ids": [1]},
        {"type": "int", "ids": ["1"]},
        {"type": "int", "ids": [1, True]},
        {"type": "int", "ids": [1, 2**63]},
        {"type": "int", "ids": 1},
        {"type": "str", "ids": ["a", 1]},
        {"type": "str", "ids": "ab"},
        {"type": "str", "ids": [["a"]]},
        {"type": "int", "ids": None},
        {"type": "int", "ids": [2, 1]},
        {"type": "str", "ids": ["a", "a"]},
    ],
)
def test_json_of_anything_else_is_refused(content):
    with pytest.raises(ValueError):
        Vocabulary.from_json(json.dumps(content))


@pytest.mark.parametrize("text", ["", "{", '{"type": "int", "ids": [1,'])
def test_cut_off_json_is_refused(text):
    with pytest.raises(ValueError, match="not a vocabulary"):
        Vocabulary.from_json(text)


def test_rows_are_int32_for_the_embedding_table():
    assert Vocabulary(np.array([3, 1])).rows(np.array([1, 5])).dtype == np.int32
