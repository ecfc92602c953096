"""Raw ids: columns of integers or strings, and the lookup of ids among known ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, KeysView, Sequence, ValuesView
from typing import Any

import numpy as np
from jaxtyping import Int32, Shaped

from retrieval.common.errors import DataError
from retrieval.data.columns import MISSING_TEXTS, RefusedValue, is_missing

Ids = Shaped[np.ndarray, " _"]  # raw ids: int64 or fixed-width str
LARGEST = 2**63 - 1


def as_ids(values: Iterable | np.ndarray, name: str) -> Ids:
    """Converts raw ids to a one-dimensional int64 or str array.

    The ids are a list, an array, an iterator, or a column of pandas, polars or pyarrow; they may be Python objects.

    Raises:
      DataError: an id is missing or beyond int64, ids are neither integers nor strings or both, or `values` are not
        one-dimensional; the message names the id.
    """
    if isinstance(values, Iterator | KeysView | ValuesView):
        values = list(values)
    try:
        ids = np.asarray(values)
    except ValueError:  # NumPy refuses lists of different lengths
        raise DataError(f"{name} must be one-dimensional, got {values!r:.80}") from None
    if ids.ndim == 0:  # NumPy makes one object of a set or a mapping
        raise DataError(f"{name} must be a list or an array of ids, as [7] or ['b'], got {values!r:.80}")
    if ids.ndim != 1:
        raise DataError(f"{name} must be one-dimensional, got shape {ids.shape}")
    if ids.size == 0:
        return ids if ids.dtype.kind == "U" else ids.astype(np.int64)
    if ids.dtype.kind in "iu":
        if ids.max() > LARGEST:
            raise DataError(f"{name} must be below 2**63, got {ids.max()}; make them strings")
        return ids.astype(np.int64)
    if ids.dtype.kind in "UT" and isinstance(values, np.ndarray):
        return ids.astype(np.str_, copy=False)
    # NumPy turns integers beside text into text, and integers beside 2**63 into floats: look at the values themselves
    return _from_objects(list(values) if isinstance(values, list | tuple) else ids.tolist(), name)


def _from_objects(values: list, name: str) -> Ids:
    """Converts Python objects that are all integers or all strings."""
    numbers = np.generic | np.ndarray  # NumPy's text stays: `item` would cut off a NUL character
    values = [v.item() if isinstance(v, numbers) and not isinstance(v, str) and v.ndim == 0 else v for v in values]
    for row, value in enumerate(values):
        if is_missing(value):
            raise RefusedValue(name, row, f"missing id, got {value!r}; give every row an id or drop the row")
    is_text = [isinstance(value, str) for value in values]
    if all(is_text):
        _check_no_nul(values, name)
        return np.array(values, np.str_)
    bad = [value for value in values if isinstance(value, bool) or not isinstance(value, str | int)]
    if any(is_text):
        other = (bad or [value for value in values if not isinstance(value, str)])[0]
        raise DataError(f"{name} must be all integers or all strings, got {other!r} among strings")
    if bad:
        remedy = "; make them integers, in pandas: .astype('int64')" if isinstance(bad[0], float) else ""
        raise DataError(f"{name} must be integers or strings, got {bad[0]!r:.80}{remedy}")
    largest, least = max(values), min(values)
    if largest > LARGEST or least < -LARGEST - 1:
        received = largest if largest > LARGEST else least
        raise DataError(f"{name} must be below 2**63, got {received}; make them strings")
    return np.array(values, np.int64)


def check_ids(ids: Ids, name: str) -> None:
    """Checks ids in memory as those of files are, see `text_ids.check_text_ids`; integers need no check.

    Raises:
      DataError: an id cannot be used; the message names the row, from 0.
    """
    if ids.dtype.kind == "U":
        import pyarrow as pa  # here, as answers of a bundle need no pyarrow

        from retrieval.data.text_ids import check_text_ids

        def refuse(row: int, problem: str, remedy: str) -> RefusedValue:
            return RefusedValue(name, row, f"{problem}, got {str(ids[row])!r:.80}; {remedy}")

        check_text_ids(pa.array(ids.tolist(), pa.large_string()), refuse)


def parse_integer(text: str) -> int:
    """Returns the integer that ASCII digits write, after a sign or none.

    `int` also reads "1_0", " 10" and digits of other scripts, which are other ids in files.

    Raises:
      ValueError: the text is no such integer, or beyond int64.
    """
    if not re.fullmatch(r"[+-]?[0-9]{1,30}", text) or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"expected an integer of 64 bits in plain digits, got {text!r:.80}")
    return int(text)


def _check_no_nul(values: Sequence[str], name: str) -> None:
    """Raises ValueError for a NUL character: NumPy cuts it off the end of a text, which then is another id."""
    bad = next((value for value in values if "\0" in value), None)
    if bad is not None:
        raise ValueError(f"{name} must hold no NUL character, got {''.join(bad)!r:.80}")


def listed(values: Any) -> Any:
    """Returns a list in place of an iterator, an array in place of a column or frame, whose [0] may be a label."""
    if isinstance(values, Iterator | KeysView | ValuesView):
        return list(values)
    for name in ("to_pylist", "to_numpy"):  # pyarrow; pandas and polars
        if hasattr(values, name):
            return getattr(values, name)()
    return values


def check_unknown(ids: Ids, is_known: Callable[[str], bool], name: str) -> None:
    """Checks that ids that were not found are no mistakes: missing, with blanks around them, or 12.0 for a known 12.

    Raises:
      DataError: an id is one; the message names it.
    """
    for text in ids.tolist() if ids.dtype.kind == "U" else []:
        whole = text.partition(".")[0]
        if text.strip() in MISSING_TEXTS:
            raise DataError(f"{name}: missing id, got {text!r}; leave it out")
        if text.strip() != text:
            raise DataError(f"{name}: blanks around an id, got {text!r:.80}; remove them")
        if whole != text and not text.removeprefix(whole + ".").strip("0") and is_known(whole):
            raise DataError(f"{name}: {text!r:.80} is unknown and {whole!r:.80} is known; write ids without fractions")


def find(known: Ids, ids: Sequence | np.ndarray) -> Int32[np.ndarray, "n"]:
    """Finds each of `ids` in the sorted, unique `known`: its index, or -1 if it is unknown; O(n log n) time.

    Raises:
      ValueError: one side holds strings, the other integers.
    """
    ids = as_ids(ids, "ids")
    if not len(known) or not len(ids):
        return np.full(len(ids), -1, np.int32)
    if (known.dtype.kind == "U") != (ids.dtype.kind == "U"):
        raise ValueError(f"ids are {ids.dtype}, the first {ids[0].item()!r}, but the known ids are {known.dtype}")
    order = np.argsort(ids)  # in ascending order, neighbouring searches stay within the processor's cache
    ascending = ids[order]
    index = np.minimum(np.searchsorted(known, ascending), len(known) - 1).astype(np.int32)
    found = np.empty(len(ids), np.int32)
    found[order] = np.where(known[index] == ascending, index, np.int32(-1))
    return found


def distinct(ids: Ids) -> Ids:
    """Returns the distinct ids, sorted, as `np.unique` does; sorting is faster than its hash table.

    >>> distinct(np.array([3, 1, 3]))
    array([1, 3])
    """
    ascending = np.sort(ids)
    return ascending[np.append(True, ascending[1:] != ascending[:-1])[: len(ids)]]


def narrow(ids: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
    """Returns ids, or a column, with the text type no wider than the longest text.

    >>> narrow(np.array(["a", "bc"], "U9"))
    array(['a', 'bc'], dtype='<U2')
    """
    return ids.astype(f"U{np.strings.str_len(ids).max(initial=1)}") if ids.dtype.kind == "U" else ids
