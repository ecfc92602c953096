"""Columns in memory-mapped files, read without keeping their pages in memory.

Pages of a mapped file count as memory of the process from their first reading until their release. A released page of a
file that is only read is read again from the file, or from the system's cache of the file: releasing costs only time.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, Shaped

WINDOW = 1 << 24  # number of values that are read before their pages are released


def gather(column: Shaped[np.ndarray, "n *S"], indices: Int[np.ndarray, "m"]) -> Shaped[np.ndarray, "m *S"]:
    """Returns `column[indices]`, holding at most a window of a memory-mapped column in memory.

    The file is read in ascending order, a window at a time: O(m log m) time, and one pass over the pages with values
    that are asked for. Gather many values at once.
    """
    if _mapped_file(column) is None:
        return column[indices]
    ascending = np.argsort(indices)
    wanted = indices[ascending]
    edges = [0, *np.searchsorted(wanted, np.arange(WINDOW, len(column), WINDOW)), len(wanted)]
    gathered = np.empty((len(indices), *column.shape[1:]), column.dtype)
    for first, last in itertools.pairwise(edges):
        gathered[ascending[first:last]] = column[wanted[first:last]]
        release(column)
    return gathered


def windows(column: Shaped[np.ndarray, "n *S"]) -> Iterator[Shaped[np.ndarray, "_ *S"]]:
    """Yields the values of a column, a window at a time, and releases the pages of each window after use."""
    for start in range(0, len(column), WINDOW):
        yield column[start : start + WINDOW]
        release(column)


def release(column: Shaped[np.ndarray, "n *S"]) -> None:
    """Gives the pages of a memory-mapped column back to the system; does nothing for other arrays."""
    if (file := _mapped_file(column)) is not None:
        file.madvise(mmap.MADV_DONTNEED)


def _mapped_file(column: np.ndarray) -> mmap.mmap | None:
    """Returns the file that a column maps; None unless its pages can be released without loss of data."""
    mode = getattr(column, "mode", None)
    while isinstance(column, np.ndarray):
        column = column.base
    return column if isinstance(column, mmap.mmap) and mode == "r" and hasattr(mmap, "MADV_DONTNEED") else None
