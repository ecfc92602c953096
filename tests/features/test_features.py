"""Encoders of every kind: what they have in common, what is missing, and what is refused."""

import json

import numpy as np
import pytest
from feature_cases import COLUMNS, KINDS, Feature, canonical, equal, missing
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.features import encoder_from_json, fit

HASHED = {"size": 50, "hashes": 2}
ONE_OF_EACH = [case[0] for case in KINDS]
IDS = [f"{f.kind}-{f.size}-{f.hashes}-{i}" for i, f in enumerate(ONE_OF_EACH)]
TRAIN = {"vector": ["1 2 3", "4 5 6"], "bag": ["a|b", "c"], "text": ["a b", "c"], "category": ["a", "b"]}


@settings(deadline=None, max_examples=150)
@given(COLUMNS)
def test_an_encoder_comes_back_from_json_to_the_bit(case):
    feature, train, other = case
    encoder = fit(feature, train)
    again = encoder_from_json(encoder.to_json())
    assert again == encoder and again.spec == encoder.spec and again.to_json() == encoder.to_json()
    assert equal(again.encode(train), encoder.encode(train))
    assert feature.kind == "vector" or equal(again.encode(other), encoder.encode(other))


@settings(deadline=None, max_examples=150)
@given(COLUMNS)
def test_every_value_is_encoded_by_itself(case):
    feature, train, other = case
    encoder = fit(feature, train)
    values = train if feature.kind == "vector" else train + other
    together = encoder.encode(values)
    for row, value in enumerate(values):
        assert canonical(encoder.encode([value]), 0) == canonical(together, row)


@settings(deadline=None, max_examples=150)
@given(COLUMNS, st.randoms())
def test_neither_order_nor_repeats_of_the_training_part_matter_but_to_sums(case, random):
    feature, train, _ = case
    shuffled = train.copy()
    random.shuffle(shuffled)
    one, other = fit(feature, train), fit(feature, shuffled)
    if feature.kind == "number":
        np.testing.assert_allclose(other.deviation, one.deviation, rtol=1e-12)
    else:
        assert one == other


@settings(deadline=None, max_examples=150)
@given(COLUMNS)
def test_encoded_features_keep_to_their_spec_and_are_finite(case):
    feature, train, other = case
    encoder = fit(feature, train)
    encoded = encoder.encode(train if feature.kind == "vector" else train + other)
    if encoder.spec.num_rows:
        assert encoded.values is None and encoded.rows.dtype == np.int32 and encoded.weights.dtype == np.float32
        assert encoded.rows.min(initial=0) >= 0 and encoded.rows.max(initial=0) < encoder.spec.num_rows
        assert ((encoded.weights > 0).sum(axis=1) > 0).all() and (encoded.weights >= 0).all()
        assert encoder.encode(train).rows.shape == (len(train), encoder.spec.size) or not train
    else:
        assert encoded.rows is None and encoded.weights is None and encoded.values.dtype == np.float32
        assert encoded.values.shape[1] == encoder.spec.size and np.isfinite(encoded.values).all()
        gone = encoded.values[:, -1] == 1
        assert not encoded.values[gone, :-1].any() and not encoded.values[~gone, -1].any()


@pytest.mark.parametrize("feature", ONE_OF_EACH, ids=IDS)
def test_missing_values_are_row_zero_or_marked(feature):
    encoder = fit(feature, TRAIN.get(feature.kind, [1.0, 2.0, 5.0]))
    encoded = encoder.encode(["", None])
    assert [canonical(encoded, row) for row in range(2)] == [missing(encoder)] * 2
    if feature.kind not in ("bag", "text", "vector"):
        assert canonical(encoder.encode(np.array([np.nan])), 0) == missing(encoder)


@pytest.mark.parametrize("feature", ONE_OF_EACH, ids=IDS)
@pytest.mark.parametrize("train", [[], [None, ""]], ids=["empty", "missing"])
def test_a_training_part_without_values_leaves_an_encoder_that_knows_nothing(feature, train):
    encoder = encoder_from_json(fit(feature, train).to_json())
    assert canonical(encoder.encode([""]), 0) == missing(encoder)
    empty = encoder.encode([])
    assert (empty.values if empty.rows is None else empty.rows).shape[0] == 0
    if feature.kind in ("category", "bag") and not feature.hashes:
        assert canonical(encoder.encode(["a"]), 0) == missing(encoder)
    if feature.kind == "number":
        assert encoder.encode([3e30]).values.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize(
    ("settings_", "values", "message"),
    [
        ({"kind": "categry"}, [], "feature 'x': kind must be .*, got 'categry'; did you mean 'category'"),
        ({"kind": "?"}, [], "kind must be one of 'category', 'bag', 'number', .*'vector'.*, got '\\?'"),
        ({"size": 9}, [], "'x' of kind 'category': size needs hashes.*got 9"),
        ({"hashes": 2}, [], "size of a hashed table must be at least 2 rows, got 0"),
        ({"hashes": -1}, [], "hashes must be at least 0, got -1"),
        ({"kind": "bag", "hashes": 1, "size": 1}, [], "at least 2 rows, got 1"),
        ({"kind": "text", "size": 9}, [], "'text': text is always hashed: hashes must be at least 1, got 0"),
        ({"kind": "text", "hashes": 1}, [], "at least 2 rows, got 0"),
        ({"kind": "buckets"}, [], "number of buckets, size, must be at least 2, got 0"),
        ({"kind": "periodic", "period": 2.0}, [], "number of frequencies, size, must be at least 1, got 0"),
        ({"kind": "periodic", "size": 1}, [], "period must be above 0, in units of the column, got 0.0"),
        ({"kind": "number", "size": 3}, [], "of kind 'number' has no size, got size=3"),
        ({"kind": "vector", "combiner": "sum"}, [], "of kind 'vector' has no combiner, got combiner='sum'"),
        ({"weights": "w"}, [], "of kind 'category' has no weights, got weights='w'"),
        ({"combiner": "max"}, [], "combiner must be one of 'mean', 'sum', 'sqrtn', got 'max'"),
        (
            {"kind": "number"},
            ["1", "2x"],
            "feature 'x', row 1: must be a number, got '2x'; write times as Unix seconds, leave",
        ),
        ({"kind": "buckets", "size": 2}, [1, float("inf")], "row 1: a number must be finite and fit float32, got inf"),
        ({"kind": "number"}, [None, "1e39"], "row 1: a number must be finite and fit float32, got '1e39'"),
        ({"kind": "number"}, [[1.0]], r"values must be one-dimensional, got shape \(1, 1\)"),
        ({"kind": "number"}, [[1.0], 2.0], "row 1: numbers among lists, got 2.0"),
        ({"kind": "number"}, ["1_0"], "row 0: must be a number, got '1_0'"),
        ({"kind": "number"}, ["1", "\u0661"], "row 1: must be a number, got '\u0661'"),
        ({"kind": "number"}, [True, 1], "row 1: integers among booleans, got 1"),
        ({}, [2**70], "row 0: integers must be below 2\\*\\*63, got 1180591620717411303424; make them text"),
        ({}, ["a", "b\0"], "row 1: text with a NUL character, got 'b\\\\x00'"),
        ({}, np.array(["2020"], "datetime64[D]"), "holds datetime64.*; write times as Unix seconds"),
        ({"kind": "vector"}, ["1 2", "", "1"], "row 2: a vector must have 2 numbers, got 1"),
        ({"kind": "vector"}, ["1 x"], "row 0: must be a number, got 'x'"),
        ({"kind": "vector"}, [1.0, 2.0], r"vectors must be \[n, size\] or text, got numbers"),
    ],
)
def test_what_cannot_be_fitted_is_refused(settings_, values, message):
    with pytest.raises(ValueError, match=message):
        fit(Feature(**settings_), values)


def test_vectors_of_another_length_or_with_gaps_are_refused():
    encoder = fit(Feature(kind="vector"), np.ones((2, 3)))
    with pytest.raises(ValueError, match="vectors must have 3 numbers, got 2"):
        encoder.encode(np.ones((1, 2)))
    with pytest.raises(ValueError, match="row 1: a vector must have 3 numbers, got 2"):
        encoder.encode(["", "1 2"])
    with pytest.raises(ValueError, match="row 1: a vector must have all or none of its numbers"):
        encoder.encode([[1.0, 2.0, 3.0], [1.0, np.nan, 3.0]])
    with pytest.raises(ValueError, match="row 1: a number must be finite and fit float32, got inf"):
        encoder.encode([[1.0, 2.0, 3.0], [1.0, np.inf, 3.0]])


@pytest.mark.parametrize("feature", ONE_OF_EACH, ids=IDS)
def test_weights_go_to_bags_that_name_their_column(feature):
    with pytest.raises(ValueError, match=f"'x' of kind '{feature.kind}' takes no weights, received 1"):
        fit(feature, []).encode([""], ["1"])
    bag = fit(Feature(kind="bag", weights="w"), ["a"], [1])
    with pytest.raises(ValueError, match="'x' of kind 'bag' takes weights from column 'w', received none"):
        bag.encode(["a"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "ages"}, "kind must be one of .*'vector'.*, got 'ages'"),
        ({"kind": None}, "got 'None'"),
        ({"kind": ["number"]}, r"\['number'\]"),
        ({"mean": "0"}, "field 'mean' must be of type float, got '0'"),
        ({"mean": 0}, "field 'mean' must be of type float, got 0"),
        ({"mean": float("nan")}, "field 'mean' must be finite, got nan"),
        ({"mean": 9.0}, "least, mean and largest must ascend, got"),
        ({"deviation": 0.0}, "deviation must be above 0, got 0.0"),
        ({"column": 3}, "field 'column' must be of type str, got 3"),
        ({"meen": 0.0}, "unknown field 'meen'; did you mean 'mean'"),
    ],
)
def test_damaged_numbers_name_the_field(change, message):
    content = json.loads(fit(Feature(kind="number"), [1, 2]).to_json())
    with pytest.raises(ValueError, match=f"not an encoder: .*{message}"):
        encoder_from_json(json.dumps({**content, **change}))


@pytest.mark.parametrize(
    ("feature", "change", "message"),
    [
        (Feature(), {"known": "ab"}, "field 'known' must be a list, got 'ab'"),
        (Feature(), {"known": ["a", 1]}, r"field 'known\[1\]' must be of type str, got 1"),
        (Feature(), {"known": ["a", "a"]}, "known values must be unique"),
        (Feature(), {"known": ["a", ""]}, "a known value must not be missing"),
        (Feature(), {"size": True}, "field 'size' must be of type int, got True"),
        (Feature(), {"size": 7}, "size needs hashes"),
        (Feature(), {"width": 0}, "width must be at least 1, got 0"),
        (Feature(kind="bag"), {"combiner": "max"}, "combiner must be one of"),
        (Feature(kind="text", **HASHED), {"size": 1}, "at least 2 rows"),
        (Feature(kind="buckets", size=2), {"bounds": [2.0, 1.0]}, r"bounds must ascend, got \(2.0, 1.0\)"),
        (Feature(kind="buckets", size=2), {"bounds": [1.0, None]}, r"field 'bounds\[1\]' must be of type float"),
        (Feature(kind="periodic", size=2, period=9.0), {"period": -1.0}, "period must be above 0"),
        (Feature(kind="vector"), {"size": -1}, "size must be at least 0, got -1"),
    ],
)
def test_damaged_encoders_of_other_kinds_name_the_field(feature, change, message):
    content = json.loads(fit(feature, []).to_json())
    with pytest.raises(ValueError, match=f"not an encoder: .*{message}"):
        encoder_from_json(json.dumps({**content, **change}))


@pytest.mark.parametrize("text", ["", "{", "[]", "3", '"number"', "null", '{"kind": "number"', '{"kind": "number"}'])
def test_what_is_no_encoder_is_refused(text):
    with pytest.raises(ValueError, match="not an encoder: "):
        encoder_from_json(text)


@pytest.mark.parametrize("name", ["mean", "deviation", "least", "largest", "column", "kind"])
def test_a_missing_field_is_named(name):
    content = json.loads(fit(Feature(kind="number"), [1, 2]).to_json())
    del content[name]
    with pytest.raises(ValueError, match=f"field '{name}' is missing"):
        encoder_from_json(json.dumps(content))
