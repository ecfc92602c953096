"""Histories: what each query did, in the order of time, and the windows of them that training reads.

A window is right-aligned: padding first, then up to L interactions. Each interaction of it can be a target, which a
history tower predicts from those before it in one pass over the window.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Int64

from retrieval.common.lists import Lists
from retrieval.data.interactions import Interactions

PADDING = 0  # the unknown row: a candidate that nothing is known of tells as little as none


class Windows(NamedTuple):
    """Pieces of histories, right-aligned, in the columns that history towers read.

    Attributes:
      owners: which history each window is a piece of [n].
      rows: candidate rows, 0 in padding [n, L].
      is_target: whether each interaction is a target of this window [n, L].
      ratings: of the interactions; NaN in padding and where unknown [n, L].
      times: of the interactions in seconds; -1 in padding and where unknown [n, L].
    """

    owners: Int32[np.ndarray, "n"]
    rows: Int32[np.ndarray, "n L"]
    is_target: Bool[np.ndarray, "n L"]
    ratings: Float32[np.ndarray, "n L"]
    times: Int64[np.ndarray, "n L"]


@dataclasses.dataclass(frozen=True)
class Histories:
    """The interactions of each owner in the order of time.

    Attributes:
      lists: candidate rows of each owner.
      ratings: aligned with the rows of the lists, or None.
      times: likewise.
    """

    lists: Lists
    ratings: Float32[np.ndarray, "total"] | None = None
    times: Int64[np.ndarray, "total"] | None = None

    @classmethod
    def of(
        cls,
        owners: Int[np.ndarray, "n"],
        candidate_rows: Int[np.ndarray, "n"],
        interactions: Interactions,
        num_owners: int,
    ) -> Histories:
        """Gathers interactions into histories; O(n log n) time.

        Args:
          owners: whose each interaction is, in [0, num_owners); a negative one is left out.
          candidate_rows: row of its candidate.
          interactions: gives times and ratings. Without times, or at equal times, the order of the file is that of
            time.
          num_owners: how many histories there are.
        """
        kept = np.flatnonzero(owners >= 0)
        times = interactions.timestamps
        order = kept[np.lexsort(((kept if times is None else times[kept]), owners[kept]))]
        columns = (None if c is None else c[order] for c in (interactions.ratings, times))
        return cls(Lists.from_pairs(owners[order], candidate_rows[order], num_owners), *columns)

    def take(self, owners: Int[np.ndarray, "m"]) -> Histories:
        """Returns the histories of these owners, in that order, with repeats."""
        lists = self.lists.take(owners)
        places = np.repeat(self.lists.offsets[owners] - lists.offsets[:-1], lists.lengths) + np.arange(len(lists.rows))
        return Histories(lists, *(None if c is None else c[places] for c in (self.ratings, self.times)))

    def windows(self, length: int) -> Windows:
        """Returns windows that have each interaction as a target once.

        A history of up to `length` interactions is one window; a longer one is cut into windows that overlap by half
        their length, so that a target has at least half a window of history where there is as much.
        """
        sizes, stride = self.lists.lengths, max(length // 2, 1)
        numbers = np.where(sizes == 0, 0, 1 + np.ceil(np.maximum(sizes - length, 0) / stride)).astype(np.int64)
        owners = np.repeat(np.arange(len(sizes)), numbers)
        which = np.arange(len(owners)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
        ends = np.minimum(length + which * stride, sizes[owners])
        first_targets = np.where(which == 0, 0, length + (which - 1) * stride)
        return self._windows(owners, ends, first_targets, length)

    def last(self, length: int) -> Windows:
        """Returns the last `length` interactions of each owner, none of them a target; a window for each."""
        sizes = self.lists.lengths
        return self._windows(np.arange(len(sizes)), sizes, sizes, length)

    def _windows(self, owners, ends, first_targets, length) -> Windows:
        """Returns windows that end before `ends` of their histories, with targets from `first_targets` on."""
        places = ends[:, None] + np.arange(-length, 0)  # [n, L] within the history
        there = places >= 0
        flat = np.where(there, places + self.lists.offsets[owners][:, None], 0)

        def column(values, filling, dtype):
            if values is None or not len(values):
                return np.full(flat.shape, filling, dtype)
            return np.where(there, values[flat], np.asarray(filling, dtype)).astype(dtype)

        return Windows(
            owners.astype(np.int32),
            column(self.lists.rows, PADDING, np.int32),
            there & (places >= first_targets[:, None]),
            column(self.ratings, np.nan, np.float32),
            column(self.times, -1, np.int64),
        )


def gaps(times: Int64[np.ndarray, "n L"]) -> Int32[np.ndarray, "n L"]:
    """Returns the seconds from each interaction of a window to the one before it, -1 where there is none.

    >>> gaps(np.array([[-1, 100, 160, 150]]))
    array([[-1, -1, 60,  0]], dtype=int32)
    """
    before = np.concatenate([np.full((len(times), 1), -1, np.int64), times[:, :-1]], axis=1)
    seconds = np.clip(times - before, 0, np.iinfo(np.int32).max)
    return np.where((times < 0) | (before < 0), -1, seconds).astype(np.int32)
