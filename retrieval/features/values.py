"""Raw columns converted to text or to numbers, the two forms that encoders read, with missing values marked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int, Shaped

from retrieval.common.errors import DataError
from retrieval.data.column_values import as_column
from retrieval.data.columns import Column, RefusedValue, as_texts, is_present, to_list, values_of

Text = Shaped[np.ndarray, " _"]  # fixed-width str
MOST = float(np.finfo(np.float32).max)  # largest number: encoded features are float32
REMEDY = "write times as Unix seconds, leave missing ones empty, or use another kind"


def to_texts(values: Sequence | np.ndarray, column: str) -> Text:
    """Converts values to text [n], "" for missing values ("", NaN or None).

    Integers and whole floats below 2**53 are written in decimal, so that a column of integers gives the same text after
    NaN has turned it into floats. Booleans are "true" and "false"; lists are joined, see `join_values`.

    >>> to_texts([7.0, 0.5, float("nan")], "x"), to_texts(["7", None], "x")
    (array(['7', '0.5', ''], dtype='<U32'), array(['7', ''], dtype='<U1'))

    Raises:
      DataError: the values are not one-dimensional, or of no type that a column has.
    """
    return as_texts(_column(values, column))


def to_numbers(
    values: Sequence | np.ndarray, column: str, rows: Int[np.ndarray, "n"] | None = None
) -> Float64[np.ndarray, "n"]:
    """Converts values to numbers [n], NaN for missing values (blank text, NaN or None).

    Args:
      values: numbers, booleans as 0 and 1, or text that reads as numbers.
      column: name of the column in errors.
      rows: row of each value in errors; None: its index.

    Raises:
      DataError: a value is not a number, not finite or beyond float32, or the values are not one-dimensional.
    """
    array = _column(values, column)
    rows = np.arange(len(array)) if rows is None else rows
    if array.dtype.kind in "UO":
        numbers = _read(as_texts(array), column, rows)
    else:
        numbers = np.where(is_present(array), values_of(array).astype(np.float64), np.nan)
    large = np.flatnonzero(np.abs(numbers) > MOST)
    if len(large):
        received = to_list(array[large[:1]])[0]
        problem = f"a number must be finite and fit float32, got {received!r:.80}; leave it empty if it is missing"
        raise refused(column, int(rows[large[0]]), problem)
    return numbers


def refused(column: str, row: int, problem: str) -> RefusedValue:
    """Returns the error for the value of a feature's column at `row`."""
    return RefusedValue(f"feature {column!r}", row, problem)


def _column(values: Sequence | np.ndarray, column: str) -> Column:
    array = as_column(values, f"feature {column!r}")
    if array.ndim != 1:
        raise DataError(f"feature {column!r}: values must be one-dimensional, got shape {array.shape}")
    return array


def _read(texts: Text, column: str, rows: Int[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Parses texts as numbers, or all of them as true (1) and false (0); NaN for blank texts."""
    numbers = np.full(len(texts), np.nan)
    filled = np.flatnonzero(np.strings.strip(texts) != "")
    try:
        if (np.strings.find(texts, "_") >= 0).any() or not all(map(str.isascii, texts.tolist())):
            raise ValueError("not the digits of a number")
        numbers[filled] = texts[filled].astype(np.float64)
    except ValueError:  # NumPy does not say which value is wrong
        words = np.strings.lower(np.strings.strip(texts[filled]))
        if np.isin(words, ["true", "false"]).all():
            numbers[filled] = words == "true"
            return numbers
        for index in filled.tolist():
            try:
                numbers[index] = parse_number(texts[index].item())
            except ValueError:
                problem = f"must be a number, got {texts[index].item()[:80]!r}; {REMEDY}"
                raise refused(column, int(rows[index]), problem) from None
    return numbers


def parse_number(text: str) -> float:
    """Parses a decimal number in ASCII; Python also reads "1_0" and the digits of other scripts.

    Raises:
      ValueError: the text is no number.
    """
    if "_" in text or not text.isascii():
        raise ValueError(f"not a number: {text!r:.80}")
    return float(text)
