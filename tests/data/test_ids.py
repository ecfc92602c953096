"""Ids are found among known ones, and the distinct ones are those of NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.data.ids import as_ids, distinct, find, narrow
from retrieval.data.interactions import Interactions, Table
from retrieval.data.vocabulary import Vocabulary
from retrieval.index import ExactIndex, Filter, LiveIndex

INTEGERS = st.lists(st.integers(0, 20) | st.integers(0, 2**63 - 1), max_size=40)
TEXTS = st.lists(st.text("ab7é", max_size=3), max_size=40)
COLUMNS = st.tuples(INTEGERS, INTEGERS, st.just(np.int64)) | st.tuples(TEXTS, TEXTS, st.just(np.str_))


@given(COLUMNS)
def test_the_distinct_ids_are_those_of_numpy(columns):
    ids = np.asarray(columns[0], columns[2])
    expected = np.unique(ids)
    assert np.array_equal(distinct(ids), expected) and distinct(ids).dtype == expected.dtype


@given(COLUMNS)
def test_each_id_is_found_where_it_stands_or_nowhere(columns):
    known, ids = np.unique(np.asarray(columns[0], columns[2])), np.asarray(columns[1], columns[2])
    place = {value: i for i, value in enumerate(known.tolist())}
    found = find(known, ids)
    assert found.dtype == np.int32
    assert found.tolist() == [place.get(value, -1) for value in ids.tolist()]


def test_text_and_integers_are_not_compared():
    with pytest.raises(ValueError, match="ids are <U1, the first 'a', but the known ids are int64"):
        find(np.array([1, 2]), np.array(["a"]))


def test_text_may_be_objects():
    assert as_ids(np.array(["a", "bc"], object), "ids").dtype == np.dtype("U2")
    with pytest.raises(ValueError, match="ids, row 1: missing id, got None"):
        as_ids(np.array(["a", None], object), "ids")


@pytest.mark.parametrize("other", [3, True])
def test_text_and_what_is_none_are_no_ids(other):
    with pytest.raises(ValueError, match=f"ids must be all integers or all strings, got {other} among strings"):
        as_ids(["a", other], "ids")
    assert as_ids(["a", np.str_("b"), np.array("c")], "ids").tolist() == ["a", "b", "c"]


def test_text_is_as_wide_as_the_longest():
    assert narrow(np.array(["a", "abc"], "U40")).dtype == np.dtype("U3")
    assert narrow(np.array([], "U40")).dtype == np.dtype("U1")
    assert narrow(np.array([7])).dtype == np.int64


@pytest.mark.parametrize("ids", [["a", "b\0"], ("\0",), ["a\0b"], [np.str_("a\0")], np.array(["a", "b\0"], object)])
def test_an_id_with_a_nul_character_is_refused_and_not_cut(ids):
    for use in (
        lambda: as_ids(ids, "ids"),
        lambda: Table(ids),
        lambda: Interactions(ids, ids),
        lambda: Table(["a", "b", "c"]).positions(ids),
        lambda: Vocabulary(["a", "b"]).rows(ids),
        lambda: Filter(deny=ids),
        lambda: LiveIndex.build(["a", "b"], ExactIndex.build(np.eye(2))).remove(ids),
        lambda: LiveIndex.build(["a", "b"], ExactIndex.build(np.eye(2))).add(ids, np.ones((len(ids), 2))),
    ):
        with pytest.raises(ValueError, match="must hold no NUL character, got '"):
            use()


@pytest.mark.parametrize(
    "text", ["1_0", " 10", "10 ", "١٠", "１０", "10.0", "0x0A", "", "+", "10\n", str(2**63), "9" * 5000]
)
def test_an_integer_id_given_as_text_is_plain_digits_alone(text):
    with pytest.raises(ValueError, match="ids of this vocabulary are integers"):
        Vocabulary([10, 11]).parse(text)


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_integer_id_is_read_from_its_digits(number):
    assert Vocabulary([10]).parse(str(number)) == number
