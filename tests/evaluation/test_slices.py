"""Slices of candidates and queries."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.common.lists import Lists
from retrieval.data.interactions import Table
from retrieval.evaluation import slices


def members(found, column):
    return {s.value: np.flatnonzero(s.members).tolist() for s in found if s.column == column}


def test_head_middle_and_tail_take_a_third_of_the_interactions_each():
    counts = np.array([1, 30, 10, 0, 10, 9, 0], np.int64)
    known = counts > 0
    found = members(slices.of_candidates(counts, known, Table(np.arange(7))), "popularity")
    assert found == {"head": [1], "middle": [2], "tail": [0, 4, 5]}  # from 0, 30 and 40 of 60 on


def test_cold_ones_have_a_line_of_their_own_even_where_there_are_none():
    known = np.array([True, False, True])
    found = slices.of_candidates(np.array([2, 0, 1]), known, Table(np.arange(3)))
    assert members(found, "vocabulary") == {"known": [0, 2], "cold": [1]}
    assert all(not s.members[1] for s in found if s.column in ("popularity", "activity"))
    found = slices.of_queries(np.array([3]), np.array([True]), np.array([-1]), None)
    assert members(found, "vocabulary") == {"known": [0], "cold": []}


def test_activity_quarters_keep_equal_counts_together():
    counts = np.array([1, 1, 1, 1, 1, 2, 3, 9])
    found = members(slices.of_queries(counts, counts > 0, np.full(8, -1), None), "activity")
    assert found == {"1": [0, 1, 2, 3, 4], "2": [5], "3 to 9": [6, 7]}


@given(st.lists(st.integers(0, 30), min_size=1, max_size=40))
def test_activity_and_popularity_cut_the_known_into_disjoint_groups(counts):
    counts = np.array(counts)
    found = slices.of_candidates(counts, counts > 0, Table(np.arange(len(counts))))
    for column in ("activity", "popularity"):
        groups = [s.members for s in found if s.column == column]
        np.testing.assert_array_equal(np.sum(groups, axis=0) if groups else counts * 0, counts > 0)


def test_a_column_of_several_values_is_sliced_by_each():
    corpus = Table(np.arange(3), {"title": np.array(["a", "b", "c"]), "genres": np.array(["War|Drama", "", "Drama"])})
    found = slices.of_candidates(np.array([1, 1, 1]), np.ones(3, bool), corpus)
    assert members(found, "genres") == {"Drama": [0, 2], "War": [0], "missing": [1]}
    assert not members(found, "title")


def test_vectors_make_no_slices():
    table = Table(np.arange(3), {"vector": np.eye(3, dtype=np.float32), "kind": np.array(["a", "b", "a"])})
    counts, known = np.array([1, 1, 1]), np.ones(3, bool)
    of_queries = slices.of_queries(counts, known, np.array([0, -1, 2]), table)
    for found in (slices.of_candidates(counts, known, table), of_queries):
        assert {s.column for s in found} - {"popularity", "activity", "vocabulary"} == {"kind"}


def test_numbers_with_many_values_are_cut_into_quarters_and_text_makes_no_slices():
    ages = np.arange(60)
    assert members(slices.of_column("age", ages), "age").keys() == {"0 to 14", "15 to 29", "30 to 44", "45 to 59"}
    assert slices.of_column("zip_code", ages.astype(str)) == []
    few = members(slices.of_column("stars", np.array([1.5, np.nan, 1.5])), "stars")
    assert few == {"1.5": [0, 2], "missing": [1]}


@pytest.mark.parametrize("values", [np.array(["F", "M"]), np.array([20, 30])])
def test_a_query_outside_the_table_is_missing(values):
    table = Table(np.array([7, 8]), {"column": values})
    found = slices.of_queries(np.array([1, 1]), np.ones(2, bool), np.array([1, -1]), table)
    assert members(found, "column") == {str(values[1]): [0], "missing": [1]}


def test_a_restriction_has_a_list_for_each_slice_and_query():
    relevant = Lists.from_sequences([[2, 0], [1]])
    groups = [
        slices.Slice("x", "a", np.array([True, True, False])),
        slices.Slice("x", "b", np.array([False, False, True])),
    ]
    lists, places = slices.restricted(relevant, groups)
    assert [lists[i].tolist() for i in range(4)] == [[0], [1], [2], []]
    np.testing.assert_array_equal(relevant.rows[places], lists.rows)
    lists, places = slices.restricted(relevant, [])
    assert (len(lists), len(places)) == (0, 0)
