"""Negatives of a batch beside its own positives, and the expected share of each candidate in a batch."""

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
    """Distribution of the columns of a batch: its positives, earlier positives, and random draws.

    Each column is a negative of all examples of the batch, except for draws from the disliked candidates of a query,
    which are negatives of its own examples only.

    Attributes:
      counts: number of times that each candidate row is a positive in the training part [num_rows].
      uniform: columns a batch drawn uniformly from the candidates with a count above 0.
      popular: columns a batch drawn in proportion to count ** power (Mikolov et al. 2013, "Distributed representations
        of words and phrases and their compositionality", section 2.2, with a power of 3/4).
      power: see `popular`.
      queue: number of examples before the batch whose positives are columns of it too, as in a cross-batch memory (Wang
        et al. 2021, "Cross-Batch Negative Sampling"), but encoded with the current parameters, so never stale.
      disliked: candidate rows that each query row disliked; None if `dislikes` is 0.
      dislikes: draws an example from the candidates that its query disliked.
      estimated: estimates the frequencies of the positives from the batches so far, see `StreamFrequencies`, instead of
        taking them from `counts`.

    Raises:
      ValueError: a number is negative, or `dislikes` is above 0 without `disliked`.
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
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.dislikes and self.disliked is None:
            raise ValueError(f"dislikes is {self.dislikes}, and disliked is None; pass what each query row disliked")

    @classmethod
    def in_batch(cls, examples: Examples) -> Negatives:
        """Returns the distribution of a batch's own positives alone, counted in the examples in O(n) time."""
        counts = np.zeros(0, np.int64)
        for rows in windows(examples.candidate_rows):
            longer = np.bincount(rows[rows != NO_ROW], minlength=len(counts))
            longer[: len(counts)] += counts
            counts = longer
        return cls(counts.astype(np.float32))

    def draw(self, random: np.random.Generator) -> Int32[np.ndarray, "M"]:
        """Returns the candidate rows of the random columns of a batch, in O(M log num_rows) time."""
        uniform = self._drawable[random.integers(0, len(self._drawable), self.uniform)]
        # inverse transform sampling: the first candidate whose cumulative probability exceeds a uniform number
        indices = np.searchsorted(self._cumulative, random.random(self.popular), side="right")
        return np.concatenate([uniform, self._drawable[indices]]).astype(np.int32)

    def draw_disliked(self, random: np.random.Generator, query_rows: Int[np.ndarray, "B"]) -> Int32[np.ndarray, "B H"]:
        """Draws candidate rows that the query of each example disliked, with replacement; -1 if it disliked none."""
        shape = len(query_rows), self.dislikes
        if self.disliked is None:
            return np.full(shape, NO_ROW, np.int32)
        lengths = self.num_disliked(query_rows)[:, None]
        offsets = self.disliked.offsets[np.maximum(query_rows, 0)][:, None]
        indices = offsets + np.floor(random.random(shape) * lengths).astype(np.int64)
        if not len(self.disliked.rows):
            return np.full(shape, NO_ROW, np.int32)
        last = len(self.disliked.rows) - 1  # the offset of an empty list at the end is out of range
        return np.where(lengths > 0, self.disliked.rows[np.minimum(indices, last)], np.int32(NO_ROW))

    def num_disliked(self, query_rows: Int[np.ndarray, "*S"]) -> Int32[np.ndarray, "*S"]:
        """Returns the number of candidates that each query disliked; 0 for padding (row -1)."""
        if self.disliked is None:
            return np.zeros(query_rows.shape, np.int32)
        offsets, rows = self.disliked.offsets, np.maximum(query_rows, 0)
        return np.where(query_rows == NO_ROW, 0, offsets[rows + 1] - offsets[rows]).astype(np.int32)

    def probabilities(
        self, rows: Int[np.ndarray, "V"], frequencies: Float[np.ndarray, "V"], num_positives: int
    ) -> Float32[np.ndarray, "V"]:
        """Returns the probability of each candidate in a column of a batch, over the mixture of all its sources.

        For P positives (of the batch and the queue), U uniform and S popular draws it is

            p(v) = (P * frequency(v) + U * uniform(v) + S * popular(v)) / (P + U + S)

        the expected number of columns with the candidate over the number of columns. Since a column does not show its
        source, the logQ correction must use the mixture p: then the sum over columns of exp(s - log p) estimates the
        sum over the corpus (multiple importance sampling, the balance heuristic of Veach and Guibas 1995). Correcting
        each column by the probability of its own source would count candidates of several sources several times.

        Args:
          rows: candidate rows [V].
          frequencies: share of each of them in the positives [V].
          num_positives: P, number of columns with positives of this batch or of the queue.
        """
        total = num_positives + self.uniform + self.popular
        expected = num_positives * np.asarray(frequencies, np.float64)
        expected += self.uniform * self._uniform[rows] + self.popular * self._popular[rows]
        return (expected / max(total, 1)).astype(np.float32)

    @functools.cached_property
    def frequencies(self) -> Float64[np.ndarray, "num_rows"]:
        """The share of each candidate row in the positives of the training part."""
        return self.counts / max(self.counts.sum(dtype=np.float64), 1.0)

    @functools.cached_property
    def _drawable(self) -> Int[np.ndarray, "_"]:
        return np.flatnonzero(self.counts)

    @functools.cached_property
    def _uniform(self) -> Float64[np.ndarray, "num_rows"]:
        return (self.counts > 0) / max(len(self._drawable), 1)

    @functools.cached_property
    def _popular(self) -> Float64[np.ndarray, "num_rows"]:
        powers = np.zeros(len(self.counts))
        powers[self._drawable] = self.counts[self._drawable].astype(np.float64) ** self.power
        return powers / max(powers.sum(), np.finfo(np.float64).tiny)

    @functools.cached_property
    def _cumulative(self) -> Float64[np.ndarray, "_"]:
        cumulative = np.cumsum(self._popular[self._drawable])
        return cumulative[:-1]  # without the total, which rounding may leave below a drawn number
