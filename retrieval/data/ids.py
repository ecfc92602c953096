"""Raw ids: columns of integers or strings, and the lookup of ids among known ids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32, Shaped

Ids = Shaped[np.ndarray, " _"]  # raw ids: int64 or fixed-width str


def as_ids(values: Sequence | np.ndarray, name: str) -> Ids:
    """Converts raw ids to a one-dimensional int64 or str array; strings may be Python objects, as in pandas.

    Raises:
      ValueError: `values` is not a list or an array, is not one-dimensional, mixes integers and strings, or has
        integers beyond int64 or strings with a NUL character.
    """
    try:
        ids = np.asarray(values)
    except ValueError:  # NumPy refuses lists of different lengths
        raise ValueError(f"{name} must be one-dimensional, got {values!r:.80}") from None
    if ids.ndim == 0:  # NumPy makes one object of a set or a mapping
        raise ValueError(f"{name} must be a list or an array of ids, as [7] or ['b'], got {values!r:.80}")
    if ids.ndim != 1:
        raise ValueError(f"{name} must be one-dimensional, got shape {ids.shape}")
    if ids.dtype.kind in "iu":
        if ids.max(initial=0) > np.iinfo(np.int64).max:
            raise ValueError(f"{name} must be below 2**63, got {ids.max()}; make them strings")
        return ids.astype(np.int64)
    if ids.dtype == object and ids.size and all(isinstance(value, str) for value in ids.tolist()):
        _check_no_nul(ids.tolist(), name)
        return ids.astype(str)
    if ids.dtype.kind == "U":
        if not isinstance(values, np.ndarray):  # NumPy converts values beside text to text, as "nan"
            other = [value for value in values if not isinstance(value, str) and np.asarray(value).dtype.kind != "U"]
            if other:
                raise ValueError(f"{name} must be all integers or all strings, got {other[0]!r} among strings")
            _check_no_nul([value if isinstance(value, str) else str(value) for value in values], name)
        return ids
    if ids.size == 0:
        return ids.astype(np.int64)
    listed = ids.tolist()
    bad = next((value for value in listed if isinstance(value, bool) or not isinstance(value, str | int)), listed[0])
    raise ValueError(f"{name} must be integers or strings, got {bad!r} (dtype {ids.dtype})")


def _check_no_nul(values: Sequence[str], name: str) -> None:
    """Raises ValueError for a NUL character: NumPy cuts it off the end of a text, which then is another id."""
    bad = next((value for value in values if "\0" in value), None)
    if bad is not None:
        raise ValueError(f"{name} must hold no NUL character, got {''.join(bad)!r:.80}")


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
