"""Which candidates a batch holds beside its own positives, and how often each is to be expected there."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int32

from retrieval.batching.batch import NO_ROW
from retrieval.common.lists import Lists
from retrieval.data.encoding import Examples
from retrieval.data.out_of_core.mapped import windows


@dataclasses.dataclass(frozen=True)
class Negatives:
    """The sampler of a batch's columns: its positives, those before it, and random draws.

    All columns serve all examples; draws from what a query disliked serve its examples alone.

    Attributes:
      counts: how often each candidate row is a positive in train [num_rows].
      uniform: columns drawn a batch from the candidates with a count, each alike.
      popular: columns drawn a batch in proportion to count ** power (Mikolov et al. 2013, with a power of 3/4).
      power: see `popular`.
      queue: the positives of that many examples before the batch are columns too, as in a cross-batch memory (Wang et
        al. 2021, "Cross-Batch Negative Sampling"), but encoded anew: they are never stale.
      disliked: candidate rows that each query row disliked; None where `dislikes` is 0.
      dislikes: draws an example from what its query disliked.
      estimated: the frequencies of the positives are estimated while batches come by, see `StreamFrequencies`,
        instead of taken from `counts`.
    """

    counts: Float[np.ndarray, "num_rows"]
    uniform: int = 0
    popular: int = 0
    power: float = 0.75
    queue: int = 0
    disliked: Lists | None = None
    dislikes: int = 0
    estimated: bool = False

    def __post_init__(self):
        for name in ("uniform", "popular", "queue", "dislikes"):
            if getattr(self, name) < 0:
                raise ValueError(f"negatives.{name} must be 0 or more, got {getattr(self, name)}")
        if self.dislikes and self.disliked is None:
            raise ValueError("negatives.dislikes needs to know what was disliked: set data.dislike_at_most")

    @classmethod
    def in_batch(cls, examples: Examples) -> Negatives:
        """Returns the sampler of a batch's own positives, counted in the examples in O(n) time."""
        counts = np.zeros(0, np.int64)
        for rows in windows(examples.candidate_rows):
            more = np.bincount(rows[rows != NO_ROW], minlength=len(counts))
            more[: len(counts)] += counts
            counts = more
        return cls(counts.astype(np.float32))

    def draw(self, random: np.random.Generator) -> Int32[np.ndarray, "M"]:
        """Returns the candidate rows of the random columns of a batch, in O(M log num_rows) time."""
        alike = self._drawable[random.integers(0, len(self._drawable), self.uniform)]
        indices = np.searchsorted(self._cumulative, random.random(self.popular), side="right")
        return np.concatenate([alike, self._drawable[indices]]).astype(np.int32)

    def draw_disliked(self, random: np.random.Generator, query_rows: Int[np.ndarray, "B"]) -> Int32[np.ndarray, "B H"]:
        """Returns candidate rows that the query of each example disliked, with repeats; -1 where there is none."""
        shape = len(query_rows), self.dislikes
        if self.disliked is None:
            return np.full(shape, NO_ROW, np.int32)
        lengths = self.num_disliked(query_rows)[:, None]
        offsets = self.disliked.offsets[np.maximum(query_rows, 0)][:, None]
        indices = offsets + np.floor(random.random(shape) * lengths).astype(np.int64)
        if not len(self.disliked.rows):
            return np.full(shape, NO_ROW, np.int32)
        last = len(self.disliked.rows) - 1  # the place of an empty list may be behind all rows
        return np.where(lengths > 0, self.disliked.rows[np.minimum(indices, last)], np.int32(NO_ROW))

    def num_disliked(self, query_rows: Int[np.ndarray, "*S"]) -> Int32[np.ndarray, "*S"]:
        """Returns how many candidates each query disliked; 0 where there is no query (row -1)."""
        if self.disliked is None:
            return np.zeros(query_rows.shape, np.int32)
        offsets, rows = self.disliked.offsets, np.maximum(query_rows, 0)
        return np.where(query_rows == NO_ROW, 0, offsets[rows + 1] - offsets[rows]).astype(np.int32)

    def probabilities(
        self, rows: Int[np.ndarray, "V"], frequencies: Float[np.ndarray, "V"], num_positives: int
    ) -> Float32[np.ndarray, "V"]:
        """Returns the probability that a column of a batch holds each candidate, whatever sampler it came from.

        It is the expected number of such columns over the number of columns: positives and queue follow the
        frequency of a candidate in train, the draws their own distributions. The correction for it is right for
        the mixture as a whole; a correction by each column's own sampler is not.

        Args:
          rows: candidate rows [V].
          frequencies: their shares of the positives in train [V].
          num_positives: columns that hold positives of this batch or of the queue.
        """
        total = num_positives + self.uniform + self.popular
        expected = num_positives * np.asarray(frequencies, np.float64)
        expected += self.uniform * self._alike[rows] + self.popular * self._by_popularity[rows]
        return (expected / max(total, 1)).astype(np.float32)

    @functools.cached_property
    def frequencies(self) -> Float64[np.ndarray, "num_rows"]:
        """The share of each candidate row in the positives of train."""
        return self.counts / max(self.counts.sum(dtype=np.float64), 1.0)

    @functools.cached_property
    def _drawable(self) -> Int[np.ndarray, "_"]:
        return np.flatnonzero(self.counts)

    @functools.cached_property
    def _alike(self) -> Float64[np.ndarray, "num_rows"]:
        return (self.counts > 0) / max(len(self._drawable), 1)

    @functools.cached_property
    def _by_popularity(self) -> Float64[np.ndarray, "num_rows"]:
        powers = np.zeros(len(self.counts))
        powers[self._drawable] = self.counts[self._drawable].astype(np.float64) ** self.power
        return powers / max(powers.sum(), np.finfo(np.float64).tiny)

    @functools.cached_property
    def _cumulative(self) -> Float64[np.ndarray, "_"]:
        cumulative = np.cumsum(self._by_popularity[self._drawable])
        return cumulative[:-1]  # the last candidate takes what rounding leaves
