"""Columns in memory-mapped files, read without keeping their pages in memory.

Pages of a mapped file that were read count as memory of the process until they are released. Released pages of a file
that is only read are read again from the file, or from the system's cache of it: nothing is lost but time.
"""

from __future__ import annotations

import itertools
import mmap
from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, Shaped

WINDOW = 1 << 24  # values of a column that are read before their pages are released


def gather(column: Shaped[np.ndarray, "n *S"], places: Int[np.ndarray, "m"]) -> Shaped[np.ndarray, "m *S"]:
    """Returns `column[places]`; of a memory-mapped column no more than a window is held besides.

    The file is read in ascending order, a window at a time: O(m log m) time, and one pass over the pages that hold a
    value. So gather many values at once.
    """
    if _mapped_file(column) is None:
        return column[places]
    ascending = np.argsort(places)
    wanted = places[ascending]
    edges = [0, *np.searchsorted(wanted, np.arange(WINDOW, len(column), WINDOW)), len(wanted)]
    gathered = np.empty((len(places), *column.shape[1:]), column.dtype)
    for first, last in itertools.pairwise(edges):
        gathered[ascending[first:last]] = column[wanted[first:last]]
        release(column)
    return gathered


def windows(column: Shaped[np.ndarray, "n *S"]) -> Iterator[Shaped[np.ndarray, "_ *S"]]:
    """Yields the values of a column, a window at a time, and releases each."""
    for start in range(0, len(column), WINDOW):
        yield column[start : start + WINDOW]
        release(column)


def release(column: Shaped[np.ndarray, "n *S"]) -> None:
    """Gives the pages of a memory-mapped column back to the system; does nothing to another."""
    if (file := _mapped_file(column)) is not None:
        file.madvise(mmap.MADV_DONTNEED)


def _mapped_file(column: np.ndarray) -> mmap.mmap | None:
    """Returns the file that a column maps, if its pages can be released without a loss."""
    mode = getattr(column, "mode", None)
    while isinstance(column, np.ndarray):
        column = column.base
    return column if isinstance(column, mmap.mmap) and mode == "r" and hasattr(mmap, "MADV_DONTNEED") else None
