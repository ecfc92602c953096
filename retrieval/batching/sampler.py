"""Draws the negatives of the batches of one epoch."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float32, Int, Int32

from retrieval.batching.batch import NO_ROW
from retrieval.batching.negatives import Negatives
from retrieval.batching.stream_frequencies import StreamFrequencies
from retrieval.data.encoding import Examples
from retrieval.data.vocabulary import UNKNOWN_ROW


@dataclasses.dataclass(frozen=True)
class Sampler:
    """Sampler of the negatives of one epoch; draws are a pure function of (seed, epoch, batch).

    Only the estimated frequencies depend on earlier batches, which must therefore be sampled in their order.

    Attributes:
      negatives: the distribution of the negatives.
      seed: seed of the draws.
      epoch: number of the epoch, from 0.
      before: indices of the last examples of the previous epoch, with which the queue starts [q].
      estimate: frequencies estimated from the batches so far, updated by each; None: those of the training part.
    """

    negatives: Negatives
    seed: int = 0
    epoch: int = 0
    before: Int[np.ndarray, "q"] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
    estimate: StreamFrequencies | None = None

    @classmethod
    def in_batch(cls, examples: Examples) -> Sampler:
        """Returns the sampler of batches whose only negatives are their own positives."""
        return cls(Negatives.in_batch(examples))

    @property
    def num_shared(self) -> int:
        """Number of negatives that all examples of a batch share, beside its positives."""
        return self.negatives.queue + self.negatives.uniform + self.negatives.popular

    @property
    def num_own(self) -> int:
        """Number of negatives of each single example."""
        return self.negatives.dislikes

    def queue(self, order: Int[np.ndarray, "n"], start: int) -> Int[np.ndarray, "_"]:
        """Returns the indices of the examples right before `order[start]`, at most as many as the queue holds."""
        first = start - self.negatives.queue
        earlier = self.before[max(0, len(self.before) + first) :] if first < 0 else self.before[:0]
        return np.concatenate([earlier, order[max(first, 0) : start]])

    def draw(
        self,
        candidate_rows: Int[np.ndarray, "_"],
        query_rows: Int[np.ndarray, "steps B"],
        num_queued: int,
        first: int,
    ) -> tuple[Int32[np.ndarray, "steps M"], Int32[np.ndarray, "steps BH"]]:
        """Draws the shared negatives [steps, M] and the own negatives [steps, B * H] of each batch; -1 for none.

        Args:
          candidate_rows: candidate rows of the queue before the first batch, then the positives of the batches.
          query_rows: query row of each example, -1 for padding.
          num_queued: number of examples in that queue.
          first: number of the first batch in the epoch, from 0.
        """
        steps, batch_size = query_rows.shape
        # the queue of a batch is a window over the positives before it; it starts short in the first epoch
        ends = num_queued + np.arange(steps) * batch_size
        indices = ends[:, None] - self.negatives.queue + np.arange(self.negatives.queue)
        queued = np.where(indices < 0, np.int32(NO_ROW), candidate_rows[np.maximum(indices, 0)])
        drawn, own = [], []
        for step in range(steps):
            random = np.random.default_rng((self.seed, self.epoch, 1 + first + step))
            drawn.append(self.negatives.draw(random))
            own.append(self.negatives.draw_disliked(random, query_rows[step]).reshape(-1))
        return np.concatenate([queued, np.stack(drawn)], axis=1).astype(np.int32), np.stack(own)

    def num_disliked(self, query_rows: Int[np.ndarray, "steps B"]) -> Int32[np.ndarray, "steps B"]:
        """Returns the number of candidates that the query of each example disliked."""
        return self.negatives.num_disliked(query_rows)

    def probabilities(
        self, rows: Int[np.ndarray, "V"], positives: Int[np.ndarray, "B"], shared: Int[np.ndarray, "M"]
    ) -> Float32[np.ndarray, "V"]:
        """Returns `Negatives.probabilities` of the distinct candidate rows of a batch.

        A row beyond the vocabulary, of a held-out candidate, counts as the unknown row.

        Args:
          rows: distinct candidate rows of the batch [V].
          positives: candidate rows of its positives, -1 for padding [B].
          shared: its shared negatives, the queue first [M].
        """
        rows, positives = (
            np.where(column < len(self.negatives.counts), column, UNKNOWN_ROW) for column in (rows, positives)
        )
        positives = positives[positives != NO_ROW]
        if self.estimate is None:
            frequencies = self.negatives.frequencies[rows]
        else:
            self.estimate.update(*np.unique(positives, return_counts=True), len(positives))
            frequencies = self.estimate.frequencies(rows)
        queued = shared[: self.negatives.queue]
        return self.negatives.probabilities(rows, frequencies, len(positives) + int(np.sum(queued != NO_ROW)))
