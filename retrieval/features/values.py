"""Raw columns converted to text or to numbers, the two forms that encoders read, with missing values marked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float64, Int, Shaped

from retrieval.common.errors import DataError

Text = Shaped[np.ndarray, " _"]  # fixed-width str
MOST = float(np.finfo(np.float32).max)  # largest number: encoded features are float32
REMEDY = "write times as Unix seconds, or use another kind"
WHOLE = 2.0**53  # below it float64 represents every whole number


class RefusedValue(DataError):
    """A value of a feature cannot be encoded.

    Attributes:
      column: name of the column.
      row: index of the value in the column, from 0.
      problem: what is wrong with the value.
    """

    def __init__(self, column: str, row: int, problem: str):
        """Creates the error for the value at `row` of `column`."""
        super().__init__(f"feature {column!r}, row {row}: {problem}")
        self.column, self.row, self.problem = column, row, problem

    def at(self, place: str) -> DataError:
        """Returns the same error with `place`, as "id 7", in place of the row."""
        return DataError(f"feature {self.column!r}, {place}: {self.problem}")


def to_texts(values: Sequence | np.ndarray, column: str) -> Text:
    """Converts values to text [n], "" for missing values ("", NaN or None).

    Integers and whole floats below 2**53 are written in decimal, so that a column of integers gives the same text after
    NaN has turned it into floats. Booleans are "true" and "false", as in `read_table`.

    >>> to_texts([7.0, 0.5, float("nan")], "x"), to_texts(["7", None], "x")
    (array(['7', '0.5', ''], dtype='<U32'), array(['7', ''], dtype='<U1'))

    Raises:
      DataError: the values are not one-dimensional, or are neither text nor numbers.
    """
    array, present = _column(values, column)
    if present is not None:
        return _filled(present, to_texts(array, column), "")
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind == "b":
        return np.where(array, "true", "false")
    if array.dtype.kind in "iu":
        return array.astype(np.str_)
    whole = (np.floor(array) == array) & (np.abs(array) < WHOLE)
    texts = np.where(whole, np.where(whole, array, 0).astype(np.int64).astype(np.str_), array.astype(np.str_))
    return np.where(np.isnan(array), "", texts)


def to_numbers(
    values: Sequence | np.ndarray, column: str, rows: Int[np.ndarray, "n"] | None = None
) -> Float64[np.ndarray, "n"]:
    """Converts values to numbers [n], NaN for missing values (blank text, NaN or None).

    Args:
      values: numbers, or text that reads as numbers.
      column: name of the column in errors.
      rows: row of each value in errors; None: its index.

    Raises:
      DataError: a value is not a number, not finite or beyond float32, or the values are not one-dimensional.
    """
    array, present = _column(values, column)
    rows = np.arange(len(values)) if rows is None else rows
    if present is not None:
        return _filled(present, to_numbers(array, column, rows[present]), np.nan)
    numbers = _read(array, column, rows) if array.dtype.kind == "U" else array.astype(np.float64)
    refused = np.flatnonzero(np.abs(numbers) > MOST)
    if len(refused):
        received = array[refused[0]].item()
        raise RefusedValue(column, int(rows[refused[0]]), f"a number must be finite and fit float32, got {received!r}")
    return numbers


def _column(
    values: Sequence | np.ndarray, column: str
) -> tuple[Shaped[np.ndarray, "_"] | list, Bool[np.ndarray, "n"] | None]:
    """Returns the values and None; if some values are None, the other values and a mask of them."""
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise DataError(f"feature {column!r}: values must be one-dimensional, got {error}") from None
    if array.ndim != 1:
        raise DataError(f"feature {column!r}: values must be one-dimensional, got shape {array.shape}")
    if array.dtype.kind in "Uiufb":
        return array, None
    present = np.array([value is not None for value in array.tolist()], bool)
    if present.all():
        problem = f"values must be text or numbers of at most 64 bits, got {array.dtype}, {array.tolist()[0]!r} first"
        raise DataError(f"feature {column!r}: {problem}; dates as Unix seconds, longer integers as text")
    return array[present].tolist(), present


def _filled(present: Bool[np.ndarray, "n"], values: Shaped[np.ndarray, "m"], missing) -> Shaped[np.ndarray, "n"]:
    filled = np.full(len(present), missing, values.dtype)
    filled[present] = values
    return filled


def _read(texts: Text, column: str, rows: Int[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Parses texts as numbers; NaN for blank texts."""
    numbers = np.full(len(texts), np.nan)
    filled = np.strings.strip(texts) != ""
    try:
        numbers[filled] = texts[filled].astype(np.float64)
        return numbers
    except ValueError:  # NumPy does not say which value is wrong
        for row, text in zip(rows[filled].tolist(), texts[filled].tolist(), strict=True):
            try:
                float(text)
            except ValueError:
                raise RefusedValue(column, row, f"must be a number, got {text[:80]!r}; {REMEDY}") from None
        raise
