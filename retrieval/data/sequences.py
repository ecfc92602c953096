"""Histories: each query's interactions in the order of time, and the windows of histories that training reads.

A window is right-aligned: padding first, then up to L interactions. Each interaction can be a target. A history tower
predicts all targets of a window from the interactions before them, in one pass.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Int64

from retrieval.common.lists import Lists
from retrieval.data.interactions import Interactions

PADDING = 0  # the unknown row: an unknown candidate tells as little as no candidate


class Windows(NamedTuple):
    """Right-aligned windows of histories, in the columns that history towers read.

    Attributes:
      owners: index of the history of each window [n].
      rows: candidate rows, 0 in padding [n, L].
      is_target: whether each interaction is a target of the window [n, L].
      ratings: ratings of the interactions; NaN in padding and if unknown [n, L].
      times: times of the interactions in Unix seconds; -1 in padding and if unknown [n, L].
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
      ratings: ratings, aligned with the rows of the lists, or None.
      times: times in Unix seconds, likewise.
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
          owners: owner of each interaction, in [0, num_owners); interactions of negative owners are left out.
          candidate_rows: candidate row of each interaction.
          interactions: the interactions, which give times and ratings. Interactions without times, or of equal times,
            keep the order of the file.
          num_owners: number of histories.
        """
        kept = np.flatnonzero(owners >= 0)
        order = kept[interactions.take(kept).order_by_time(owners[kept])]
        columns = (None if c is None else c[order] for c in (interactions.ratings, interactions.timestamps))
        return cls(Lists.from_pairs(owners[order], candidate_rows[order], num_owners), *columns)

    def take(self, owners: Int[np.ndarray, "m"]) -> Histories:
        """Returns the histories of these owners, in that order; an owner may be repeated."""
        lists = self.lists.take(owners)
        flat = np.repeat(self.lists.offsets[owners] - lists.offsets[:-1], lists.lengths) + np.arange(len(lists.rows))
        return Histories(lists, *(None if c is None else c[flat] for c in (self.ratings, self.times)))

    def windows(self, length: int) -> Windows:
        """Cuts histories into windows such that each interaction is a target exactly once.

        A history of up to `length` interactions is one window. A longer history is cut into windows that overlap by
        half their length, so that a target has at least length / 2 earlier interactions, or all that exist.
        """
        sizes, stride = self.lists.lengths, max(length // 2, 1)
        numbers = np.where(sizes == 0, 0, 1 + np.ceil(np.maximum(sizes - length, 0) / stride)).astype(np.int64)
        owners = np.repeat(np.arange(len(sizes)), numbers)
        index = np.arange(len(owners)) - np.repeat(np.cumsum(numbers) - numbers, numbers)  # of the window, per owner
        ends = np.minimum(length + index * stride, sizes[owners])
        first_targets = np.where(index == 0, 0, length + (index - 1) * stride)
        return self._windows(owners, ends, first_targets, length)

    def last(self, length: int) -> Windows:
        """Returns one window for each owner: the last `length` interactions, without targets."""
        sizes = self.lists.lengths
        return self._windows(np.arange(len(sizes)), sizes, sizes, length)

    def _windows(self, owners, ends, first_targets, length) -> Windows:
        """Returns windows that end before index `ends` of their history; targets start at index `first_targets`."""
        indices = ends[:, None] + np.arange(-length, 0)  # [n, L] within the history
        is_real = indices >= 0
        flat = np.where(is_real, indices + self.lists.offsets[owners][:, None], 0)

        def column(values, filling, dtype):
            if values is None or not len(values):
                return np.full(flat.shape, filling, dtype)
            return np.where(is_real, values[flat], np.asarray(filling, dtype)).astype(dtype)

        return Windows(
            owners.astype(np.int32),
            column(self.lists.rows, PADDING, np.int32),
            is_real & (indices >= first_targets[:, None]),
            column(self.ratings, np.nan, np.float32),
            column(self.times, -1, np.int64),
        )


def gaps(times: Int64[np.ndarray, "n L"]) -> Int32[np.ndarray, "n L"]:
    """Returns the seconds between each interaction of a window and the previous one, -1 for the first.

    >>> gaps(np.array([[-1, 100, 160, 150]]))
    array([[-1, -1, 60,  0]], dtype=int32)
    """
    before = np.concatenate([np.full((len(times), 1), -1, np.int64), times[:, :-1]], axis=1)
    seconds = np.clip(times - before, 0, np.iinfo(np.int32).max)
    return np.where((times < 0) | (before < 0), -1, seconds).astype(np.int32)
