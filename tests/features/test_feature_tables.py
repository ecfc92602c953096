"""Features of a table: names, statistics of train alone, and a row for each entity."""

import numpy as np
import pytest
from feature_cases import Feature, canonical, equal, missing
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.data.interactions import Table
from retrieval.features import encode_table, feature_names, fit, fit_table

FEATURES = [
    Feature("id"),
    Feature("age", kind="number"),
    Feature("age", kind="buckets", size=3),
    Feature("gender"),
    Feature("genres", kind="bag", weights="shares"),
    Feature("title", kind="text", size=500, hashes=2),
    Feature("vector", kind="vector"),
    Feature("born", kind="periodic", size=2, period=604_800.0),
]
USERS = Table(
    np.array([30, 10, 20, 40]),
    {
        "age": np.array([50, 20, 40, 99]),
        "gender": np.array(["F", "M", "", "X"]),
        "genres": np.array(["War|Drama", "War", "", "Sport"]),
        "shares": np.array(["1|3", "", "", "5"]),
        "title": np.array(["Toy Story", "Up", "", "Jaws"]),
        "vector": np.array([[1, 2], [3, 4], [np.nan, np.nan], [7, 8]], np.float32),
        "born": np.array([0, 86_400, 1_700_000_000, 3]),
    },
)


def test_names_are_columns_with_what_tells_them_apart():
    assert feature_names(FEATURES)[:4] == ["id", "age/number", "age/buckets", "gender"]
    day, week = Feature("t", kind="periodic", period=1.0), Feature("t", kind="periodic", period=7.0)
    assert feature_names([day, Feature("t", kind="number"), week]) == ["t/periodic", "t/number", "t/periodic/2"]
    assert feature_names([]) == []


def test_a_feature_that_is_listed_twice_is_refused():
    with pytest.raises(ValueError, match="feature 'age' of kind 'number' is listed twice; leave one out"):
        feature_names([Feature("age", kind="number"), Feature("sex"), Feature("age", kind="number")])
    with pytest.raises(ValueError, match="two features are named 'a/number'; rename a column"):
        feature_names([Feature("a", kind="number"), Feature("a"), Feature("a/number")])


def test_statistics_are_of_the_training_rows_each_once():
    encoders = fit_table(FEATURES, USERS, [10, 30, 20, 10, 10, 10, 77])
    assert list(encoders) == feature_names(FEATURES)
    age = encoders["age/number"]
    assert age.mean == pytest.approx(110 / 3) and (age.least, age.largest) == (20.0, 50.0)
    assert encoders["age/buckets"].bounds == (20.0, 40.0)
    assert encoders["gender"].known == ("F", "M") and encoders["genres"].known == ("Drama", "War")
    assert encoders["id"].known == ("10", "20", "30", "77")  # an id has itself, whether or not the table has it


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["age", "gender", "genres", "title", "vector", "born"]))
def test_statistics_do_not_see_rows_outside_train(seed, column):
    rng = np.random.default_rng(seed)
    changed = {name: values.copy() for name, values in USERS.columns.items()}
    changed[column][3] = rng.integers(10**6) if column != "title" else "Rocky"
    changed["shares"][3] = ""
    trained = fit_table(FEATURES, USERS, [10, 20, 30])
    assert fit_table(FEATURES, Table(USERS.ids, changed), [10, 20, 30]) == trained
    assert fit_table(FEATURES, Table(USERS.ids[:3], {n: v[:3] for n, v in changed.items()}), [30, 20, 10]) == trained


def test_a_training_row_that_changes_changes_the_statistics():
    changed = {**USERS.columns, "age": np.array([51, 20, 40, 99])}
    one, other = (fit_table(FEATURES, table, [30]) for table in (USERS, Table(USERS.ids, changed)))
    assert one["age/number"] != other["age/number"] and one["gender"] == other["gender"]


def test_entities_have_the_row_of_their_id_and_row_zero_misses_everything():
    encoders = fit_table(FEATURES, USERS, [10, 20, 30])
    encoded = encode_table(encoders, USERS, [20, 77, 30, 40])
    assert list(encoded) == list(encoders)
    for name, feature in encoded.items():
        assert canonical(feature, 0) == missing(encoders[name])
        if name != "id":
            assert canonical(feature, 2) == missing(encoders[name])  # the table lacks 77
    assert encoded["id"].rows.tolist() == [[0], [2], [0], [3], [0]]  # train lacks 77 and 40
    assert encoded["gender"].rows.tolist() == [[0], [0], [0], [1], [0]]
    assert encoded["age/buckets"].rows.tolist() == [[0], [2], [0], [3], [3]]
    assert [canonical(encoded["genres"], row) for row in (3, 4)] == [[(2, 1.0), (1, 3.0)], [(0, 1.0)]]
    assert encoded["vector"].values.tolist() == [[0, 0, 1], [0, 0, 1], [0, 0, 1], [1, 2, 0], [7, 8, 0]]
    born = fit(FEATURES[-1], []).encode([1_700_000_000, 0, 3]).values
    assert encoded["born"].values[[1, 3, 4]].tobytes() == born.tobytes()


def test_an_id_that_the_table_lacks_has_itself():
    encoders = fit_table([Feature("id"), Feature("age", kind="number")], USERS, [10, 77])
    encoded = encode_table(encoders, USERS, [77, 10])
    assert encoded["id"].rows.tolist() == [[0], [2], [1]]
    assert encoded["age"].values.tolist() == [[0, 1], [0, 1], [0, 0]]


def test_ids_that_are_text_are_looked_up_as_text():
    table = Table(["b", "a"], {"age": np.array([1, 3])})
    encoded = encode_table(fit_table([Feature("id"), Feature("age")], table, ["a", "b"]), table, ["b", "c", "a"])
    assert encoded["id"].rows.ravel().tolist() == [0, 2, 0, 1]
    assert encoded["age"].rows.ravel().tolist() == [0, 1, 0, 2]


@settings(deadline=None)
@given(st.lists(st.sampled_from([10, 20, 30, 40, 77]), max_size=6))
def test_entities_are_encoded_as_their_columns_are(ids):
    encoders = fit_table(FEATURES, USERS, [10, 20, 30])
    encoded = encode_table(encoders, USERS, ids)
    for name, encoder in encoders.items():
        for row, id_ in enumerate(ids, start=1):
            at = np.flatnonzero(USERS.ids == id_)
            values = np.array([id_]) if encoder.column == "id" else USERS.columns[encoder.column][at]
            weights = USERS.columns["shares"][at] if encoder.weights else None
            expected = canonical(encoder.encode(values, weights), 0) if len(values) else missing(encoder)
            assert canonical(encoded[name], row) == expected


@pytest.mark.parametrize("train", [[], [77]])
def test_tables_and_training_parts_may_be_empty(train):
    empty = Table([], {name: values[:0] for name, values in USERS.columns.items()})
    for table in (empty, USERS):
        encoders = fit_table(FEATURES, table, train)
        for name, feature in encode_table(encoders, table, []).items():
            assert canonical(feature, 0) == missing(encoders[name])
            assert len(feature.rows if feature.values is None else feature.values) == 1


def test_spreading_leaves_equal_what_is_there():
    encoded = fit(Feature(kind="bag"), ["a|b"]).encode(["a", "b|a", ""])
    assert equal(encoded.spread(np.arange(3)), encoded)


@pytest.mark.parametrize(
    ("feature", "message"),
    [
        (Feature("agee", kind="number"), "no column 'agee' for a feature, only 'id', 'age', .*; did you mean 'age'"),
        (Feature("genres", kind="bag", weights="share"), "no column 'share' .*did you mean 'shares'"),
        (Feature("gender", kind="number"), "feature 'gender', id 10: must be a number, got 'M'"),
        (Feature("title", kind="vector"), "feature 'title', id 30: a vector must have 1 numbers, got 2"),
        (Feature("title", kind="bag", weights="genres"), "feature 'genres', id 30: 1 values need 1 weights joined"),
    ],
)
def test_what_the_table_cannot_give_is_named(feature, message):
    with pytest.raises(ValueError, match=message):
        fit_table([feature], USERS, [30, 20, 10])


def test_a_value_that_cannot_be_encoded_is_named_by_its_id():
    encoders = fit_table([Feature("age", kind="number")], USERS, [10])
    table = Table(["x", "y"], {"age": np.array(["1", "old"])})
    with pytest.raises(ValueError, match="feature 'age', id 'y': must be a number, got 'old'"):
        encode_table(encoders, table, ["y", "z", "x"])
    with pytest.raises(ValueError, match="no column 'age' for a feature, only 'id', 'ages'; did you mean 'ages'"):
        encode_table(encoders, Table(["x"], {"ages": np.array([1])}), ["x"])
