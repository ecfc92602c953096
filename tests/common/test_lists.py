"""Lists of different lengths keep what belongs to whom."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.common.lists import Lists

sequences = st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=8)


def contents(lists):
    return [lists[i].tolist() for i in range(len(lists))]


@settings(deadline=None)
@given(sequences)
def test_sequences_come_back(rows):
    assert contents(Lists.from_sequences(rows)) == rows


def test_arrays_are_sequences_too():
    assert contents(Lists.from_sequences([np.array([3, 1]), [2]])) == [[3, 1], [2]]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9))))
def test_pairs_are_gathered_by_owner_in_their_order(pairs):
    owners, rows = np.array(pairs, np.int64).reshape(-1, 2).T
    expected = [[row for owner, row in pairs if owner == i] for i in range(5)]
    assert contents(Lists.from_pairs(owners, rows, 5)) == expected


@settings(deadline=None)
@given(sequences)
def test_the_pairs_of_lists_give_the_lists(rows):
    lists = Lists.from_sequences(rows)
    assert contents(Lists.from_pairs(lists.owners, lists.rows, len(lists))) == rows


@pytest.mark.parametrize("owner", [-1, 2])
def test_an_owner_without_a_list_is_named(owner):
    with pytest.raises(ValueError, match=rf"owners must be in \[0, 2\), got .*{owner}"):
        Lists.from_pairs(np.array([1, owner]), np.array([0, 0]), 2)


def test_empty_lists_hold_nothing():
    assert contents(Lists.empty(2)) == [[], []]


@settings(deadline=None)
@given(st.data(), sequences.filter(bool))
def test_taken_lists_come_in_the_order_asked_for(data, rows):
    queries = data.draw(st.lists(st.integers(0, len(rows) - 1)))
    taken = Lists.from_sequences(rows).take(np.array(queries, np.int32))
    assert contents(taken) == [rows[query] for query in queries]


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(st.integers(0, 9)), st.lists(st.integers(0, 9)))))
def test_joined_lists_stand_one_after_the_other(pairs):
    first, second = [a for a, _ in pairs], [b for _, b in pairs]
    joined = Lists.from_sequences(first).join(Lists.from_sequences(second))
    assert contents(joined) == [a + b for a, b in pairs]


@settings(deadline=None)
@given(sequences)
def test_distinct_rows_are_the_first_of_each_list(rows):
    lists = Lists.from_sequences(rows)
    distinct, places = lists.distinct()
    assert contents(distinct) == [list(dict.fromkeys(of_one)) for of_one in rows]
    assert distinct.rows.tolist() == lists.rows[places].tolist()


@settings(deadline=None)
@given(sequences)
def test_sets_are_sorted_and_without_repeats(rows):
    assert contents(Lists.from_sequences(rows).sets()) == [sorted(set(of_one)) for of_one in rows]


@settings(deadline=None)
@given(st.data(), sequences.filter(bool))
def test_sets_contain_what_was_put_in(data, rows):
    owner = st.integers(0, len(rows) - 1)
    pairs = data.draw(st.lists(st.tuples(owner, st.integers(0, 9))))
    owners, wanted = np.array(pairs, np.int64).reshape(-1, 2).T
    got = Lists.from_sequences(rows).sets().contain(owners, wanted)
    assert got.tolist() == [row in rows[owner] for owner, row in pairs]
