"""Functions from values to rows of an embedding table: a vocabulary (`Known`), or hashing (`Hashed`)."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Int32, UInt64

from retrieval.data.ids import find
from retrieval.features.values import Text

OFFSET, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # of FNV-1a with 64 bits
GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2**64 over the golden ratio


@dataclasses.dataclass(frozen=True)
class Known:
    """Maps each known value to a row of its own, and all other values to row 0.

    >>> Known(("b", "a")).rows(np.array(["a", "b", "never seen", ""])).tolist()
    [[2], [1], [0], [0]]

    Attributes:
      values: known values in the order of their rows, row 1 first.
    """

    values: tuple[str, ...]

    @property
    def num_rows(self) -> int:
        """The number of rows, row 0 included."""
        return len(self.values) + 1

    @property
    def width(self) -> int:
        """Number of rows that a value looks up."""
        return 1

    def rows(self, texts: Text) -> Int32[np.ndarray, "n 1"]:
        """Returns the row of each value; O(n log size) time."""
        known, row_of = self._sorted
        return row_of[find(known, texts)][:, None]

    @functools.cached_property
    def _sorted(self) -> tuple[Text, Int32[np.ndarray, "_"]]:
        """The sorted values and the row of each; index -1, of values that are not found, holds row 0."""
        values = np.array(self.values, np.str_)
        order = np.argsort(values)
        return values[order], np.append(order + 1, 0).astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Hashed:
    """Maps each value to several rows, chosen among rows 1 to size - 1 by hashes of its text; "" has row 0.

    Two values share all of their rows much more rarely than one row, so that no vocabulary is needed: with 2 hashes and
    10,000 rows, 1 pair of values in 50 million shares both (Tito Svenstrup et al. 2017, Hash Embeddings).

    >>> Hashed(size=100, hashes=2).rows(np.array(["a", "b", ""])).tolist()
    [[17, 55], [92, 70], [0, 0]]

    Attributes:
      size: number of rows of the table, at least 2.
      hashes: number of rows that a value looks up, at least 1; two of these rows may be the same.
    """

    size: int
    hashes: int

    @property
    def num_rows(self) -> int:
        """The number of rows, row 0 included."""
        return self.size

    @property
    def width(self) -> int:
        """Number of rows that a value looks up."""
        return self.hashes

    def rows(self, texts: Text) -> Int32[np.ndarray, "n {self.hashes}"]:
        """Returns the rows of each value; O(n (length + hashes)) time."""
        streams = np.arange(1, self.hashes + 1, dtype=np.uint64) * GOLDEN
        # The text is hashed once; a distinct offset for each stream, mixed, stands for a hash function of its own.
        mixed = _mix(hash_texts(texts)[:, None] + streams[None, :])
        rows = (mixed % np.uint64(self.size - 1)).astype(np.int32) + 1
        rows[texts == ""] = 0
        return rows


def hash_texts(texts: Text) -> UInt64[np.ndarray, "n"]:
    """Returns a hash of each text, the same in every process and on every machine; O(n length) time.

    FNV-1a (Fowler, Noll, Vo) with 64 bits, over the code points of the text in place of bytes.

    >>> [hex(h) for h in hash_texts(np.array(["", "a", "ab"])).tolist()]
    ['0xcbf29ce484222325', '0xaf63dc4c8601ec8c', '0x89c4407b545986a']
    """
    texts = np.ascontiguousarray(texts, texts.dtype.newbyteorder("="))
    hashes = np.full(len(texts), OFFSET)
    if not texts.size:
        return hashes
    points = texts.view(np.uint32).reshape(len(texts), -1)
    lengths = np.strings.str_len(texts)
    for index in range(int(lengths.max())):  # all texts at once, one character after the other
        inside = np.flatnonzero(lengths > index)
        hashes[inside] = (hashes[inside] ^ points[inside, index]) * PRIME
    return hashes


def _mix(numbers: UInt64[np.ndarray, "n k"]) -> UInt64[np.ndarray, "n k"]:
    """Mixes the bits of each number: the finalizer of SplitMix64 (Steele et al. 2014)."""
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
