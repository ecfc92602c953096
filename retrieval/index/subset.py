"""`Subset`: the candidates that a search may find; and norms, which bound inner products."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Bool, Float32, Int64

_TINY = float(np.finfo(np.float32).tiny)


def lengths_of(vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, " n"]:
    """Computes upper bounds of the norms; they exceed the norms only where squares may underflow. O(n d) time."""
    return np.sqrt(np.vecdot(vectors, vectors) + np.float32(vectors.shape[1] * _TINY))


@dataclasses.dataclass(frozen=True, eq=False)
class Norms:
    """Norms of the vectors of a corpus: by Cauchy-Schwarz they bound its inner products.

    Attributes:
      values: upper bound of the norm of each vector, see `lengths_of` [n].
    """

    values: Float32[np.ndarray, " n"]

    @classmethod
    def from_vectors(cls, vectors: Float32[np.ndarray, "n d"]) -> Norms:
        """Computes the norms of vectors; O(n d) time."""
        return cls(lengths_of(vectors))

    @functools.cached_property
    def longest(self) -> float:
        """The largest norm; 0 for an empty corpus."""
        return float(self.values.max(initial=0))


@dataclasses.dataclass(frozen=True, eq=False)
class Gathered:
    """The vectors of a subset; if it is larger than a block, the longest vectors come first.

    A place is an index into the subset in this order; a position is an index into the corpus.

    Attributes:
      embeddings: of the whole corpus [n, d].
      positions: position of the member at each place [m].
      places: place of each member, by ascending position [m]; None: places ascend with positions.
      head: the vectors at the first places, contiguous [h, d].
      norms: norm of the vector at each place [m].
    """

    embeddings: Float32[np.ndarray, "n d"]
    positions: Int64[np.ndarray, " m"]
    places: Int64[np.ndarray, " m"] | None
    head: Float32[np.ndarray, "h d"]
    norms: Float32[np.ndarray, " m"]

    def block(self, start: int, stop: int) -> Float32[np.ndarray, "b d"]:
        """Returns the vectors at the places from `start` to `stop`."""
        if stop <= len(self.head):
            return self.head[start:stop]
        return self.embeddings[self.positions[start:stop]]

    def vectors_of(self, places: Int64[np.ndarray, " f"]) -> tuple[Float32[np.ndarray, "_ d"], Int64[np.ndarray, " f"]]:
        """Returns a matrix and the rows of it that are the vectors at places; it is the head if that suffices."""
        if places.max(initial=0) < len(self.head):
            return self.head, places
        return self.embeddings, self.positions[places]


class Subset:
    """The candidates that a search may find, the same for all queries of a batch.

    The first search copies their longest vectors, up to `MOST_BYTES`; the next searches use the copy.

    >>> Subset(np.array([True, False, True])).positions
    array([0, 2])

    Attributes:
      mask: whether each position belongs to the subset [n].
      MOST_BYTES: size of the copied vectors, exceeded by at most one vector.
    """

    MOST_BYTES = 1 << 25

    def __init__(self, mask: Bool[np.ndarray, " n"]):
        self.mask = mask
        self._gathered: Gathered | None = None

    @functools.cached_property
    def positions(self) -> Int64[np.ndarray, " m"]:
        """The positions in the subset, ascending."""
        return np.flatnonzero(self.mask)

    def __len__(self) -> int:
        return len(self.positions)

    def gather(self, embeddings: Float32[np.ndarray, "n d"], norms: Norms, block: int) -> Gathered:
        """Returns the vectors, to be searched in blocks of `block`; the first call takes O(m log m + m d) time."""
        kept = self._gathered  # read once: another thread may replace it
        if kept is not None and kept.embeddings is embeddings:
            return kept
        positions, places = self.positions, None
        if len(positions) > block:
            order = np.argsort(-norms.values[positions], kind="stable")
            positions, places = positions[order], np.empty_like(order)
            places[order] = np.arange(len(order))
        head = embeddings[positions[: self.MOST_BYTES // (4 * embeddings.shape[1]) + 1]]
        self._gathered = Gathered(embeddings, positions, places, head, norms.values[positions])
        return self._gathered

    def has_gathered(self, embeddings: Float32[np.ndarray, "n d"]) -> bool:
        """Tells whether the vectors are gathered already, so that `gather` takes O(1) time."""
        kept = self._gathered
        return kept is not None and kept.embeddings is embeddings
