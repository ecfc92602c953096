"""Values of any source -> a column of one type: lists, arrays, and columns of pandas, polars and pyarrow."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from retrieval.common.errors import DataError
from retrieval.data.columns import BOOLEANS, INTEGERS, Column, RefusedValue, as_lists, is_missing, with_missing

KINDS = {str: "text", bool: "booleans", int: "integers", float: "numbers", tuple: "lists of text"}


def as_column(values: Any, what: str) -> Column:
    """Converts values to a column: a list, an array, or a column of pandas, polars or pyarrow.

    None, NaN and the missing values of these libraries are missing. Integers beside floats become floats if they keep
    their digits. A list of lists of floats of one length is vectors; other lists hold text or integers, as text.

    >>> as_column([2**53 + 3, None], "x")
    array([(9007199254740995,  True), (               0, False)],
          dtype=[('value', '<i8'), ('present', '?')])
    >>> as_column([["War", "a|b"], []], "x")
    array([('War', 'a|b'), ()], dtype=object)

    Raises:
      RefusedValue: a value has another type than those before it, is not exact in the column's type, is a list with a
        missing element, or holds a NUL character; the message starts with `what`.
      DataError: the values are no list, or of a type that no column has.
    """
    if isinstance(values, np.ma.MaskedArray):
        values = values.tolist()
    if not isinstance(values, np.ndarray):
        values = _unpacked(values, what)
    if isinstance(values, np.ndarray) and values.dtype.kind not in "OT":
        return _from_array(values, what)
    if isinstance(values, np.ndarray) and all(map(_is_row_of_lists, values)):
        return values
    return _from_objects(list(values), what)


def _unpacked(values: Any, what: str) -> list | Column:
    """Returns the values of a list, or of a column of another library without conversion to floats."""
    for name in ("to_pylist", "to_list", "tolist"):  # pyarrow, polars and pandas, others
        if hasattr(values, name):
            return getattr(values, name)()
    if isinstance(values, str | bytes | Set | Mapping) or not isinstance(values, Iterable):
        raise DataError(f"{what} must be a list or an array, got {values!r:.80}")
    return list(values)


def _from_array(array: Column, what: str) -> Column:
    kind = array.dtype.kind
    if array.dtype in (INTEGERS, BOOLEANS) and array.ndim == 1:
        return array
    if kind not in "Uiufb" or array.dtype.itemsize > 8 and kind == "f":
        remedy = {"M": "write times as Unix seconds or as text", "S": "decode them"}.get(kind, "convert them")
        raise DataError(f"{what} holds {array.dtype}, no text and no numbers of at most 64 bits; {remedy}")
    if kind == "U":
        for index in np.flatnonzero(_has_nul(array))[:1]:
            raise RefusedValue(what, int(index), f"text with a NUL character, got {str(array.flat[index])!r:.80}")
        return array if array.ndim != 2 else as_lists(array.tolist(), len(array))
    if kind == "u" and array.ndim == 1:
        for row in np.flatnonzero(array > np.iinfo(np.int64).max)[:1]:
            raise RefusedValue(what, int(row), f"integers must be below 2**63, got {array[row]}; make them text")
    if kind in "iu" and array.ndim == 1:
        return array.astype(np.int64, copy=False)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _has_nul(texts: Shaped[np.ndarray, "..."]) -> Bool[np.ndarray, "total"]:
    """Returns whether each text has a NUL character; NumPy has cut off those at its end before."""
    points = np.ascontiguousarray(texts, texts.dtype.newbyteorder("=")).reshape(-1, 1).view(np.uint32)
    return np.count_nonzero(points, axis=1) != np.strings.str_len(texts).ravel()


def _is_row_of_lists(row: Any) -> bool:
    return type(row) is tuple and all(type(value) is str and "\0" not in value for value in row)


def _from_objects(values: list, what: str) -> Column:
    """Converts Python values to the column of their type."""
    plain = [_plain(value) for value in values]
    present = np.array([value is not None for value in plain], bool)
    if not present.any():
        return np.full(len(plain), np.nan) if any(isinstance(v, float) for v in values) else np.full(len(plain), "")
    kind: type | None = None
    for row, value in enumerate(plain):
        if value is None:
            continue
        if type(value) not in (*KINDS, list):
            remedy = "; write times as Unix seconds or as text" if hasattr(value, "year") else ""
            raise RefusedValue(what, row, f"must be text or numbers, got {type(value).__name__} {value!r:.80}{remedy}")
        found = (
            float if kind in (int, float) and type(value) in (int, float) and type(value) is not kind else type(value)
        )
        if kind is None or {kind, found} == {int, float}:
            kind = found
        elif found is not kind:
            raise RefusedValue(
                what, row, f"{KINDS.get(found, 'lists')} among {KINDS.get(kind, 'lists')}, got {value!r:.80}"
            )
    return _of_kind(kind, plain, present, what)


def _of_kind(kind: type, plain: list, present: Bool[np.ndarray, "n"], what: str) -> Column:
    if kind is list:
        return _from_lists(plain, what)
    if kind is str:
        for row, value in enumerate(plain):
            if value and "\0" in value:
                raise RefusedValue(what, row, f"text with a NUL character, got {value!r:.80}")
        return np.array([value or "" for value in plain], np.str_)
    if kind is float:
        for row, value in enumerate(plain):
            if type(value) is int and not is_exact(value):
                raise RefusedValue(
                    what, row, f"{value!s:.40} among floats would lose digits; leave floats out, None for missing"
                )
        return np.array([math.nan if value is None else value for value in plain], np.float64)
    if kind is int:
        for row, value in enumerate(plain):
            if value is not None and not -(2**63) <= value < 2**63:
                raise RefusedValue(what, row, f"integers must be below 2**63, got {value!s:.40}; make them text")
    return with_missing(np.array([value or 0 for value in plain], np.int64 if kind is int else bool), present)


def _from_lists(plain: list, what: str) -> Column:
    """Converts lists to vectors if they are floats of one length, else to lists of text."""
    lengths = {len(value) for value in plain if value}
    if len(lengths) == 1 and any(type(item) is float for value in plain if value for item in value):
        empty = [math.nan] * lengths.pop()
        if all(type(item) in (int, float) for value in plain if value for item in value):
            return np.array([value or empty for value in plain], np.float64)
    return as_lists((listed_texts(value or [], what, row) for row, value in enumerate(plain)), len(plain))


def listed_texts(values: Iterable, what: str, row: int) -> tuple[str, ...]:
    """Returns the values of one list as text.

    Raises:
      RefusedValue: an element is missing, is neither text nor a number, or has a NUL character.
    """
    plain = [_plain(value, is_missing=lambda _: False) for value in values]
    for value in plain:
        if type(value) not in (str, int, float, bool) or value != value or "\0" in str(value):
            is_gap = value is None or value != value
            problem = "a list with a missing element" if is_gap else "a list must hold text without NUL, or numbers"
            raise RefusedValue(what, row, f"{problem}, got {values!r:.80}")
    return tuple(str(value).lower() if type(value) is bool else str(value) for value in plain)


def is_exact(value: int) -> bool:
    """Tells whether float64 represents an integer."""
    try:
        return int(float(value)) == value
    except OverflowError:
        return False


def _plain(value: Any, is_missing: Callable[[Any], bool] = is_missing) -> Any:
    """Returns a value as a Python one: None if it is missing, a list if it is a sequence."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        return str(value)
    if isinstance(value, list | tuple | np.ndarray):
        return [_plain(item, is_missing=lambda _: False) for item in value]
    if is_missing(value):
        return None
    return value
