"""Interactions and tables keep columns together, and refuse what does not fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.data.columns import with_missing
from retrieval.data.interactions import Interactions, Table, concatenate, drop_duplicates

EVENTS = Interactions(["b", "a", "b"], [30, 10, 20], ratings=[5, 3.5, 1], timestamps=[300, 100, 200])


def rows_of(interactions):
    return list(zip(*(column.tolist() for column in interactions.columns().values()), strict=True))


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (np.array([2, 0, 2]), [2, 0, 2]),
        (np.array([True, False, True]), [0, 2]),
        (slice(1, None), [1, 2]),
        (np.array([], np.int64), []),
    ],
)
def test_taken_events_keep_their_columns_together(rows, expected):
    assert rows_of(EVENTS.take(rows)) == [rows_of(EVENTS)[row] for row in expected]


def test_absent_columns_stay_absent():
    taken = Interactions([1, 2], [3, 4], timestamps=[5, 6]).take(np.array([1]))
    assert taken.ratings is None
    assert rows_of(taken) == [(2, 4, 6)]


def test_concatenated_events_stand_one_after_the_other():
    other = Interactions(["longer id"], [40], ratings=[2], timestamps=[400])
    assert rows_of(concatenate(EVENTS, other)) == rows_of(EVENTS) + rows_of(other)


def test_a_column_that_one_side_lacks_is_dropped():
    other = Interactions(["c"], [40], ratings=[2])
    both = concatenate(EVENTS, other)
    assert both.timestamps is None
    assert both.ratings.tolist() == concatenate(other, EVENTS).ratings.tolist()[1:] + [2]


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["b", "a", "ab"]), st.integers(-1, 2))))
def test_the_first_event_of_a_pair_stays_in_file_order(pairs):
    queries, candidates = [q for q, _ in pairs], [c for _, c in pairs]
    kept = drop_duplicates(Interactions(queries, candidates, timestamps=range(len(pairs))))
    first = {}
    for time, pair in enumerate(pairs):
        first.setdefault(pair, time)
    assert rows_of(kept) == [(*pair, time) for pair, time in first.items()]


def test_equal_data_have_equal_fingerprints():
    again = Interactions(
        np.array(["b", "a", "b"], "<U20"),  # room for 20 characters
        np.array([30, 10, 20], np.int32),
        ratings=(5.0, 3.5, 1.0),
        timestamps=(300, 100, 200),
    )
    assert again.fingerprint() == EVENTS.fingerprint()
    parts = concatenate(EVENTS.take(slice(0, 1)), EVENTS.take(slice(1, 3)))
    assert parts.fingerprint() == EVENTS.fingerprint()


@pytest.mark.parametrize("name", ["query_ids", "candidate_ids", "ratings", "timestamps"])
def test_any_other_value_changes_the_fingerprint(name):
    columns = {key: column.tolist() for key, column in EVENTS.columns().items()}
    columns[name][2] = {"query_ids": "c", "candidate_ids": 21, "ratings": 1.5, "timestamps": 201}[name]
    assert Interactions(**columns).fingerprint() != EVENTS.fingerprint()


@pytest.mark.parametrize(
    "other",
    [
        EVENTS.take(np.array([1, 0, 2])),
        EVENTS.take(slice(0, 2)),
        Interactions(EVENTS.query_ids, EVENTS.candidate_ids, EVENTS.ratings),
        Interactions(EVENTS.query_ids, EVENTS.candidate_ids, timestamps=EVENTS.timestamps),
        Interactions(EVENTS.query_ids, ["30", "10", "20"], EVENTS.ratings, EVENTS.timestamps),
    ],
    ids=["another order", "fewer events", "no timestamps", "no ratings", "ids of another type"],
)
def test_other_data_have_another_fingerprint(other):
    assert other.fingerprint() != EVENTS.fingerprint()


def test_swapped_columns_change_the_fingerprint():
    assert Interactions([1, 2], [3, 4]).fingerprint() != Interactions([3, 4], [1, 2]).fingerprint()


@pytest.mark.parametrize("name", ["candidate_ids", "ratings", "timestamps"])
def test_columns_of_another_length_are_named(name):
    columns = {"query_ids": [1, 2], "candidate_ids": [1, 2]} | {name: [1, 2, 3]}
    with pytest.raises(ValueError, match=rf"{name} has shape \(3,\), but query_ids has \(2,\)"):
        Interactions(**columns)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ([1.5, 2], "query_ids must be integers or strings, got 1.5"),
        ([True, False], "query_ids must be integers or strings, got True"),
        ([None, "a"], "query_ids, row 0: missing id, got None"),
        ([[1, 2]], r"query_ids must be one-dimensional, got shape \(1, 2\)"),
        ([2**63, 2**63], r"query_ids must be below 2\*\*63, got 9223372036854775808"),
    ],
)
def test_what_cannot_be_an_id_is_refused(ids, message):
    with pytest.raises(ValueError, match=message):
        Interactions(ids, ids)


def test_integers_of_any_size_become_int64():
    assert Interactions(np.array([255], np.uint8), [2**63 - 1]).candidate_ids.tolist() == [2**63 - 1]
    assert Interactions(np.array([255], np.uint8), [1]).query_ids.dtype == np.int64


@pytest.mark.parametrize(("ids", "repeated"), [([4, 7, 5, 7], "7"), (["x", "y", "x"], "'x'")])
def test_a_repeated_id_of_a_table_is_named(ids, repeated):
    with pytest.raises(ValueError, match=f"ids must be unique, got {repeated} "):
        Table(ids)


def test_a_table_holds_vectors_and_fingerprints_them():
    vectors = np.eye(2, 3)
    table = Table([1, 2], {"vector": vectors})
    assert table.columns["vector"].shape == (2, 3)
    assert table.digests() != Table([1, 2], {"vector": vectors + 1}).digests()
    with pytest.raises(ValueError, match=r"column 'vector' has shape \(2, 3, 1\), but ids has \(2,\)"):
        Table([1, 2], {"vector": vectors[:, :, None]})


def test_a_column_of_another_length_than_the_table_is_named():
    with pytest.raises(ValueError, match=r"column 'title' has shape \(1,\), but ids has \(2,\)"):
        Table([1, 2], {"title": np.array(["a"])})


@settings(deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=3), unique=True), st.lists(st.text("abc", max_size=3)))
def test_positions_are_those_in_the_table_or_minus_one(known, asked):
    expected = [known.index(one) if one in known else -1 for one in asked]
    assert Table(known).positions(asked).tolist() == expected


def test_positions_of_ids_of_another_type_are_refused():
    with pytest.raises(ValueError, match="'10'.*known ids are int64"):
        Table([10, 20]).positions(["10"])


def test_a_column_of_another_type_or_value_has_another_digest():
    columns = [[1, 2], [1, None], [1.0, 2.0], [True, None], ["1", "2"], ["a|b", ""], [["a|b"], []], [["a", "b"], []]]
    columns += [[2**53 + 3, None], [2**53 + 4, None], [None, 1], [False, None], [["a"], ["b"]]]
    digests = [Table([7, 8], {"x": column}).digests()["x"] for column in columns]
    assert len(set(digests)) == len(columns)
    assert digests == [Table([7, 8], {"x": column}).digests()["x"] for column in columns]


def test_what_stands_behind_a_missing_value_is_in_no_digest():
    columns = [with_missing(np.array([7, hidden]), np.array([True, False])) for hidden in (8, 9)]
    one, other = (Table([1, 2], {"x": column}).digests() for column in columns)
    assert one == other


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["a", "b\0"], r"column 'x', row 1: text with a NUL character, got 'b\\x00'"),
        (np.array(["a\0b", "c"]), r"column 'x', row 0: text with a NUL character, got 'a\\x00b'"),
        ([["a"], ["b\0"]], "column 'x', row 1: a list must hold text without NUL"),
        ([True, 1], "column 'x', row 1: integers among booleans, got 1"),
        ([2**53 + 1, 0.5], f"column 'x', row 0: {2**53 + 1} among floats would lose digits"),
        (np.array([1, 2**63], np.uint64), "row 1: integers must be below 2.*63, got 9223372036854775808"),
        (np.array(["2020", "2021"], "datetime64[s]"), "holds datetime64.*; write times as Unix seconds"),
        ([b"a", b"b"], "row 0: must be text or numbers, got bytes"),
        ({7, 8}, "column 'x' must be a list or an array, got {"),
        ({1: 7, 2: 8}, "column 'x' must be a list or an array"),
        ([10**400, 1], r"row 0: integers must be below 2\*\*63, got 10{39}; make them text"),
        ("ab", "column 'x' must be a list or an array, got 'ab'"),
    ],
)
def test_values_without_one_type_are_refused_with_their_row(values, message):
    with pytest.raises(ValueError, match=message):
        Table([7, 8], {"x": values})
