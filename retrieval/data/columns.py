"""Attribute columns: NumPy arrays of one type each, from values of any source.

| type | array | missing value |
|---|---|---|
| text | str [n] | "" |
| integers | int64 [n], or `INTEGERS` [n] if a value is missing | `present` is False |
| numbers | float [n] | NaN |
| booleans | bool [n], or `BOOLEANS` [n] if a value is missing | `present` is False |
| lists of text | tuples of str, object [n] | the empty tuple |
| vectors | numbers [n, size] | NaN |

Each type stays what it is when rows are taken, joined or missing, and no value passes through another type.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int64, Shaped

from retrieval.common.errors import DataError
from retrieval.data.joined_values import join_values, split_values

Column = Shaped[np.ndarray, "n ..."]

INTEGERS = np.dtype([("value", np.int64), ("present", np.bool_)])
BOOLEANS = np.dtype([("value", np.bool_), ("present", np.bool_)])
LATEST = 253_402_300_799  # Unix seconds: the last of the year 9999
EXACT = 2**53  # above it float64 skips integers
MISSING_TYPES = ("NoneType", "NAType", "NaTType")  # of Python and pandas
MISSING_TEXTS = (  # the spellings of Python, pandas, R, SQL and spreadsheets
    *("", "-", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "-nan", "NaT"),
    *("NULL", "null", "Null", "None", "none", r"\N"),
)


Refuse = Callable[[int, str, str], DataError]  # (row, problem, remedy) -> the error for the value at the row


class RefusedValue(DataError):
    """A value of a column cannot be used.

    Attributes:
      what: what the column is in errors, as "feature 'age'".
      row: index of the value in the column, from 0.
      problem: what is wrong with the value.
    """

    def __init__(self, what: str, row: int, problem: str):
        """Creates the error for the value at `row`."""
        super().__init__(f"{what}, row {row}: {problem}")
        self.what, self.row, self.problem = what, row, problem

    def at(self, place: str) -> DataError:
        """Returns the same error with `place`, as "id 7", in place of the row."""
        return DataError(f"{self.what}, {place}: {self.problem}")


def type_of(column: Column) -> str:
    """Returns the type of a column in words.

    >>> type_of(np.array([1])), type_of(np.zeros(1, INTEGERS)), type_of(np.zeros((2, 3)))
    ('integers', 'integers', 'vectors of 3 numbers')
    """
    dtype = column.dtype["value"] if column.dtype.names else column.dtype
    holds = {"U": "text", "i": "integers", "u": "integers", "f": "numbers", "b": "booleans", "O": "lists of text"}
    return holds[dtype.kind] if column.ndim == 1 else f"vectors of {column.shape[1]} {holds[dtype.kind]}"


def is_missing(value: Any) -> bool:
    """Tells whether a value is None, NaN, or a missing value of pandas."""
    return type(value).__name__ in MISSING_TYPES or isinstance(value, float) and math.isnan(value)


def is_present(column: Column) -> Bool[np.ndarray, "n"]:
    """Returns whether each value is there [n]; of a vector, whether one of its numbers is."""
    if column.dtype.names:
        return column["present"]
    if column.dtype.kind == "U":
        return column != ""
    if column.dtype.kind == "O":
        return np.fromiter(map(bool, column), bool, len(column))
    if column.ndim == 2:
        return ~np.isnan(column.astype(np.float64)).all(axis=1)
    return ~np.isnan(column) if column.dtype.kind == "f" else np.ones(len(column), bool)


def values_of(column: Column) -> Column:
    """Returns the values alone, without the marks of missing ones, which are 0 or False."""
    return column["value"] if column.dtype.names else column


def to_list(column: Column) -> list:
    """Returns a column as a list of Python values that JSON can hold, None for missing integers and booleans.

    >>> to_list(with_missing(np.array([2**53 + 3, 0]), np.array([True, False])))
    [9007199254740995, None]
    """
    if column.dtype.names:
        return [value if present else None for value, present in column.tolist()]
    return [list(row) for row in column] if column.dtype.kind == "O" else column.tolist()


def as_texts(column: Column) -> Shaped[np.ndarray, "n"]:
    """Converts a column [n] to text, "" for missing values; lists are joined, see `join_values`.

    Whole floats below 2**53 are written as integers; booleans are "true" and "false".

    >>> as_texts(np.array([7.0, 0.5, np.nan])), as_texts(np.array([True, False]))
    (array(['7', '0.5', ''], dtype='<U32'), array(['true', 'false'], dtype='<U5'))
    """
    values, kind = values_of(column), values_of(column).dtype.kind
    if kind == "U":
        return values
    if kind == "O":
        return np.array(list(map(join_values, values)), np.str_)
    if kind == "f":
        whole = (np.floor(values) == values) & (np.abs(values) < EXACT)
        integers = np.where(whole, values, 0).astype(np.int64).astype(np.str_)
        texts = np.where(whole, integers, values.astype(np.str_))
    else:
        texts = np.where(values, "true", "false") if kind == "b" else values.astype(np.str_)
    return np.where(is_present(column), texts, "")


def distinct_values(column: Column) -> tuple[list[list[str]], Int64[np.ndarray, "n"]]:
    """Returns the distinct rows of a column of text or lists, divided into values, and which of them each row is.

    >>> distinct_values(np.array(["War|Drama", "", "War|Drama"]))
    ([[], ['War', 'Drama']], array([1, 0, 1]))
    """
    if column.dtype.kind != "O":
        texts, index = np.unique(as_texts(column), return_inverse=True)
        return list(map(split_values, texts.tolist())), index
    index_of: dict[tuple[str, ...], int] = {}
    index = np.fromiter((index_of.setdefault(row, len(index_of)) for row in column), np.int64, len(column))
    return list(map(list, index_of)), index


def has_several(column: Column) -> bool:
    """Tells whether a row of a column of text or lists has several values."""
    if column.dtype.kind == "O":
        return any(len(row) > 1 for row in column)
    return column.dtype.kind == "U" and any(len(row) > 1 for row in distinct_values(column)[0])


def as_lists(rows: Iterable[Iterable[str]], length: int) -> Shaped[np.ndarray, "n"]:
    """Returns a column of lists of text from the lists of its rows."""
    known: dict[tuple[str, ...], tuple[str, ...]] = {}  # equal rows share their memory
    return np.fromiter((known.setdefault(row, row) for row in map(tuple, rows)), object, length)


def blank(dtype: np.dtype) -> Shaped[np.ndarray, ""]:
    """Returns what stands at the padding of an answer: "", 0, False or the empty list."""
    value = np.zeros((), dtype)
    if dtype.kind == "O":
        value[()] = ()
    return value


def concatenate(first: Shaped[np.ndarray, "n ..."], second: Shaped[np.ndarray, "m ..."]) -> Shaped[np.ndarray, "k ..."]:
    """Returns the rows of both columns, which have one type."""
    dtype = first.dtype if first.dtype.names else second.dtype
    columns = [first, second]
    if dtype.names:
        columns = [column if column.dtype.names else _all_present(column, dtype) for column in columns]
    return np.concatenate(columns)


def converted(column: Column, like: Shaped[np.ndarray, "m ..."], what: str) -> Column:
    """Returns a column in the type of another where no value changes by it: else as it is.

    Integers become floats if these represent them, floats get the precision of the other, lists become joined text, and
    a column whose values are all missing has any type.

    Raises:
      RefusedValue: an integer is not exact in floats.
    """
    if column.ndim != 1 or like.ndim != 1 or not len(column):
        return column
    kind, present = values_of(like).dtype.kind, is_present(column)
    if not present.any() and kind != values_of(column).dtype.kind:
        empty = {"i": INTEGERS, "b": BOOLEANS}.get(kind, like.dtype)
        return np.full(len(column), np.nan if kind == "f" else blank(empty), empty)
    if kind == "U" and column.dtype.kind == "O":
        return as_texts(column)
    if kind == "f" and values_of(column).dtype.kind in "if":
        floats = np.where(present, values_of(column).astype(like.dtype), np.nan).astype(like.dtype)
        if values_of(column).dtype.kind == "i":
            for row in np.flatnonzero(present & (np.abs(floats) > 2.0 ** np.finfo(like.dtype).nmant)):
                if int(floats[row]) != (value := int(values_of(column)[row])):
                    raise RefusedValue(what, int(row), f"{value} would lose digits, as the column is {like.dtype}")
        return floats
    return column


def take(column: Column, positions: Int[np.ndarray, "m"]) -> Shaped[np.ndarray, "m"]:
    """Returns the values [m] at positions of a column [n], n > 0; missing at position -1."""
    rows, known = column[np.maximum(positions, 0)], positions >= 0
    if known.all():
        return rows
    if values_of(column).dtype.kind in "ib":
        return with_missing(values_of(rows), is_present(rows) & known)
    if column.dtype.kind in "UO":
        return np.where(known, rows, blank(column.dtype))
    return np.where(known, rows, np.array(np.nan, column.dtype))


def with_missing(values: Column, present: Bool[np.ndarray, "n"]) -> Column:
    """Returns a column of integers or booleans of which some may be missing; the plain array if none is."""
    if present.all():
        return values
    column = _all_present(values, INTEGERS if values.dtype.kind == "i" else BOOLEANS)
    column["value"][~present] = 0  # equal columns have equal bytes
    column["present"] = present
    return column


def _all_present(values: Column, dtype: np.dtype) -> Column:
    column = np.ones(len(values), dtype)
    column["value"] = values
    return column
