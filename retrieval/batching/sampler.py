"""Negatives of the batches of one epoch, and the probability of each candidate in a batch."""

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
    """The negatives of the batches of one epoch, a pure function of (seed, epoch, batch) but for what is estimated.

    Attributes:
      negatives: what is drawn.
      seed: of the draws.
      epoch: which epoch.
      before: the last examples of the epoch before this one, which the queue starts with [q].
      estimate: frequencies of the stream so far, taking in each batch that is made; None: those in train.
    """

    negatives: Negatives
    seed: int = 0
    epoch: int = 0
    before: Int[np.ndarray, "q"] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int32))
    estimate: StreamFrequencies | None = None

    @classmethod
    def of_examples(cls, examples: Examples) -> Sampler:
        """Returns the sampler of a batch's own positives."""
        return cls(Negatives.in_batch(examples))

    @property
    def num_shared(self) -> int:
        """How many negatives all examples of a batch share, its own positives aside."""
        return self.negatives.queue + self.negatives.uniform + self.negatives.popular

    @property
    def num_own(self) -> int:
        """How many negatives each example has for itself."""
        return self.negatives.dislikes

    def queue(self, order: Int[np.ndarray, "n"], start: int) -> Int[np.ndarray, "_"]:
        """Returns the examples right before place `start` of the order, as many as the queue takes and there are."""
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
        """Returns the shared and the own negatives of each batch; -1 where there is none.

        Args:
          candidate_rows: the queue before the first of these batches, and their positives.
          query_rows: query of each example, -1 for what only fills up.
          num_queued: length of the queue.
          first: which batch of the epoch the first one is.
        """
        steps, batch_size = query_rows.shape
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
        """Returns how many candidates the query of each example disliked."""
        return self.negatives.num_disliked(query_rows)

    def probabilities(
        self, rows: Int[np.ndarray, "V"], positives: Int[np.ndarray, "B"], shared: Int[np.ndarray, "M"]
    ) -> Float32[np.ndarray, "V"]:
        """Returns what `Negatives.probabilities` does for a batch of these distinct rows; batches come in order.

        A row behind those that train knows, of a candidate that is held out, counts as the unknown one.
        """
        rows, positives = (np.where(of < len(self.negatives.counts), of, UNKNOWN_ROW) for of in (rows, positives))
        there = positives[positives != NO_ROW]
        if self.estimate is None:
            frequencies = self.negatives.frequencies[rows]
        else:
            self.estimate.update(*np.unique(there, return_counts=True), len(there))
            frequencies = self.estimate.of(rows)
        queued = shared[: self.negatives.queue]
        return self.negatives.probabilities(rows, frequencies, len(there) + int(np.sum(queued != NO_ROW)))
