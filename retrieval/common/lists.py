"""Lists of candidate rows of different lengths, one per query, e.g. the relevant or the excluded candidates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64

PADDING_ROW = -1  # fills arrays [Q, k] where a query has fewer than k rows


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
        """Returns the lists of `queries`, in that order; O(m + their total length) time."""
        starts = self.offsets[:-1][queries]
        lengths = self.offsets[1:][queries] - starts
        offsets = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        shifts = np.repeat(starts - offsets[:-1], lengths)  # from an index in the new rows to one in the old
        return Lists(offsets, self.rows[shifts + np.arange(len(shifts))])

    def distinct(self) -> tuple[Lists, Int64[np.ndarray, "m"]]:
        """Returns the lists without repeats, of which the first is kept, and the indices in `rows` of the kept entries.

        >>> Lists.from_sequences([[4, 2, 4], [4]]).distinct()[1]
        array([0, 1, 3])
        """
        kept = np.sort(np.unique(self._codes(self.owners, self.rows), return_index=True)[1])
        return Lists.from_pairs(self.owners[kept], self.rows[kept], len(self)), kept

    def join(self, other: Lists) -> Lists:
        """Returns the lists with those of `other` appended, each to its own.

        >>> Lists.from_sequences([[4], []]).join(Lists.from_sequences([[2, 4], [7]]))[0]
        array([4, 2, 4], dtype=int32)
        """
        owners = np.concatenate([self.owners, other.owners])
        return Lists.from_pairs(owners, np.concatenate([self.rows, other.rows]), len(self))

    def sets(self) -> Lists:
        """Returns the lists as sets: rows ascending, without repeats; O(total log total) time, O(total) for sets.

        >>> Lists.from_sequences([[4, 2, 4], [4]]).sets().rows
        array([2, 4, 4], dtype=int32)
        """
        codes = self._codes(self.owners, self.rows)
        if np.all(codes[1:] > codes[:-1]):
            return self
        codes = np.sort(codes)
        codes = codes[np.diff(codes, prepend=-1) > 0]
        owners, rows = np.divmod(codes, np.int64(2**32))
        offsets = np.searchsorted(owners, np.arange(len(self) + 1))
        return Lists(offsets.astype(np.int64), rows.astype(np.int32))

    def contain(self, owners: Int[np.ndarray, "m"], rows: Int[np.ndarray, "m"]) -> Bool[np.ndarray, "m"]:
        """Tells which (owner, row) pairs are in the lists, which must be sets; O(m log total) time.

        >>> Lists.from_sequences([[2, 4], [4]]).contain(np.array([0, 1]), np.array([4, 2]))
        array([ True, False])
        """
        if not len(self.rows):
            return np.zeros(len(rows), bool)
        codes, wanted = self._codes(self.owners, self.rows), self._codes(owners, rows)
        return codes[np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)] == wanted

    @staticmethod
    def _codes(owners, rows) -> Int64[np.ndarray, "m"]:
        """Returns (owner, row) pairs as integers that sort as the pairs do: owner in the high 32 bits."""
        return owners.astype(np.int64) << 32 | rows
