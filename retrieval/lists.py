"""Lists of rows of different lengths, one per query: what is relevant, what is excluded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, Int32, Int64


@dataclasses.dataclass(frozen=True)
class Lists:
    """One list of candidate rows per query, in compressed sparse rows.

    Attributes:
      offsets: list q is rows[offsets[q] : offsets[q + 1]], int64 [num_lists + 1].
      rows: the lists one after the other, int32 [total].
    """

    offsets: Int64[np.ndarray, "_"]
    rows: Int32[np.ndarray, "total"]

    @classmethod
    def from_pairs(cls, owners: Int[np.ndarray, "total"], rows: Int[np.ndarray, "total"], num_lists: int) -> Lists:
        """Gathers (owner, row) pairs into one list per owner in [0, num_lists); the order in a list is kept."""
        if len(owners) and not (0 <= owners.min() and owners.max() < num_lists):
            raise ValueError(f"owners must be in [0, {num_lists}), got {owners.min()} to {owners.max()}")
        order = np.argsort(owners, kind="stable")
        offsets = np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=num_lists))])
        return cls(offsets.astype(np.int64), rows[order].astype(np.int32))

    @classmethod
    def from_sequences(cls, lists: Sequence[Sequence[int] | Int[np.ndarray, "_"]]) -> Lists:
        """Builds the lists from Python sequences.

        >>> Lists.from_sequences([[4, 2], [], [7]]).lengths
        array([2, 0, 1])
        """
        owners = np.repeat(np.arange(len(lists)), [len(rows) for rows in lists])
        rows = np.asarray([row for rows in lists for row in rows], np.int32)
        return cls.from_pairs(owners, rows, len(lists))

    @classmethod
    def empty(cls, num_lists: int) -> Lists:
        """Returns `num_lists` empty lists."""
        return cls(np.zeros(num_lists + 1, np.int64), np.zeros(0, np.int32))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, query: int) -> Int32[np.ndarray, "length"]:
        return self.rows[self.offsets[query] : self.offsets[query + 1]]

    @property
    def lengths(self) -> Int64[np.ndarray, "num_lists"]:
        """The length of each list."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Int64[np.ndarray, "total"]:
        """The list that each row belongs to."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def take(self, queries: Int[np.ndarray, "m"]) -> Lists:
        """Returns the lists of `queries`, in that order."""
        lengths = self.lengths[queries]
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        starts = np.repeat(self.offsets[:-1][queries] - offsets[:-1], lengths)
        return Lists(offsets, self.rows[starts + np.arange(offsets[-1])])

    def distinct(self) -> tuple[Lists, Int64[np.ndarray, "m"]]:
        """Returns the lists without repeats, and where in `rows` what is left stands; the first of each stays.

        >>> Lists.from_sequences([[4, 2, 4], [4]]).distinct()[1]
        array([0, 1, 3])
        """
        pairs = self.owners * (self.rows.max(initial=0) + np.int64(1)) + self.rows
        kept = np.sort(np.unique(pairs, return_index=True)[1])
        return Lists.from_pairs(self.owners[kept], self.rows[kept], len(self)), kept

    def join(self, other: Lists) -> Lists:
        """Returns the lists with those of `other` appended, each to its own.

        >>> Lists.from_sequences([[4], []]).join(Lists.from_sequences([[2, 4], [7]]))[0]
        array([4, 2, 4], dtype=int32)
        """
        owners = np.concatenate([self.owners, other.owners])
        return Lists.from_pairs(owners, np.concatenate([self.rows, other.rows]), len(self))

    def capacity(self, block: int) -> int:
        """Returns the number of rows in the fullest of the blocks of `block` consecutive lists."""
        starts = np.arange(0, len(self), block)
        ends = np.minimum(starts + block, len(self))
        return int((self.offsets[ends] - self.offsets[starts]).max(initial=0))

    def block(
        self, start: int, size: int, capacity: int
    ) -> tuple[Int32[np.ndarray, "capacity"], Int32[np.ndarray, "capacity"]]:
        """Returns the lists from `start` as `capacity` pairs (owner - start, row), padded with (size, 0)."""
        stop = min(start + size, len(self))
        first, last = self.offsets[start], self.offsets[stop]
        owners = np.full(capacity, size, np.int32)
        rows = np.zeros(capacity, np.int32)
        owners[: last - first] = np.repeat(np.arange(stop - start), self.lengths[start:stop])
        rows[: last - first] = self.rows[first:last]
        return owners, rows
