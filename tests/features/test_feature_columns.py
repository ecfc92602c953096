"""Raw columns are read as text and as numbers in one way, whatever their type."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.common.errors import DataError
from retrieval.features.values import RefusedValue, to_numbers, to_texts


def plain_text(value):
    """Returns the text of one value, one case after the other."""
    if value is None or value != value:
        return ""
    if isinstance(value, (bool, np.bool_)):
        return str(value).lower()
    if isinstance(value, float) and value == int(value) and abs(value) < 2**53:
        return str(int(value))
    return str(np.float64(value)) if isinstance(value, float) else str(value)


@settings(deadline=None)
@given(
    st.lists(st.floats(allow_infinity=False) | st.none())
    | st.lists(st.integers(-(2**63), 2**63 - 1) | st.none())
    | st.lists(st.booleans())
    | st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.none())
)
def test_values_have_the_text_of_the_plain_form(values):
    assert to_texts(values, "x").tolist() == [plain_text(value) for value in values]


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (np.array([7, 10]), ["7", "10"]),
        (np.array([7.0, np.nan, -0.0]), ["7", "", "0"]),
        (np.array([7, 0.1], np.float32), ["7", "0.1"]),
        (np.array([2.0**53, 1e300]), ["9007199254740992.0", "1e+300"]),
        (np.array([2**63 - 1], np.uint64), ["9223372036854775807"]),
        ([["War", "a|b"], []], [r"War|a\|b", ""]),
        ([9007199254740993, None], ["9007199254740993", ""]),
        ([None, None], ["", ""]),
        (["007", None, " a "], ["007", "", " a "]),
        (np.array([True, False]), ["true", "false"]),
        ([], []),
    ],
)
def test_text_by_hand(values, texts):
    assert to_texts(values, "x").tolist() == texts


@pytest.mark.parametrize(
    ("values", "numbers"),
    [
        (np.array([1_700_000_000, -3]), [1.7e9, -3]),
        (["1.5", " ", "", " -2e3 ", "nan"], [1.5, np.nan, np.nan, -2000, np.nan]),
        ([None, 2, None, 1], [np.nan, 2, np.nan, 1]),
        ([None, True, False], [np.nan, 1, 0]),
        (["", "True", "false"], [np.nan, 1, 0]),
        (np.array([0.1], np.float32), [float(np.float32(0.1))]),
        ([], []),
        ([None], [np.nan]),
    ],
)
def test_numbers_by_hand(values, numbers):
    found = to_numbers(values, "x")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, numbers)


def test_words_are_booleans_where_all_are():
    with pytest.raises(RefusedValue, match="row 1: must be a number, got 'true'"):
        to_numbers(["1", "true"], "age")


def test_a_refused_value_is_named_with_its_row_or_another_place():
    with pytest.raises(RefusedValue, match="feature 'age', row 2: must be a number, got 'old'") as caught:
        to_numbers(["1", None, "old"], "age")
    assert caught.value.row == 2
    error = caught.value.at("id 'b'")
    assert isinstance(error, DataError) and str(error).startswith("feature 'age', id 'b': must be a number, got 'old'")


def test_rows_of_the_caller_are_named_whatever_is_missing():
    with pytest.raises(RefusedValue, match="row 30: must be a number, got 'x'"):
        to_numbers([None, "", "x"], "age", np.array([10, 20, 30]))
    with pytest.raises(RefusedValue, match="row 20: a number must be finite"):
        to_numbers([None, np.inf], "age", np.array([10, 20]))
