"""Which candidates a batch holds beside its own positives, and how often each is to be expected there."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Int32

from retrieval.common.lists import Lists
from retrieval.data.encoding import Examples
from retrieval.data.out_of_core.mapped import windows
from retrieval.data.vocabulary import UNKNOWN_ROW

NONE = -1  # stands where there is no row


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
            more = np.bincount(rows[rows != NONE], minlength=len(counts))
            more[: len(counts)] += counts
            counts = more
        return cls(counts.astype(np.float32))

    def draw(self, random: np.random.Generator) -> Int32[np.ndarray, "M"]:
        """Returns the candidate rows of the random columns of a batch, in O(M log num_rows) time."""
        alike = self._drawable[random.integers(0, len(self._drawable), self.uniform)]
        places = np.searchsorted(self._cumulative, random.random(self.popular), side="right")
        return np.concatenate([alike, self._drawable[places]]).astype(np.int32)

    def draw_disliked(self, random: np.random.Generator, query_rows: Int[np.ndarray, "B"]) -> Int32[np.ndarray, "B H"]:
        """Returns candidate rows that the query of each example disliked, with repeats; -1 where there is none."""
        shape = len(query_rows), self.dislikes
        if self.disliked is None:
            return np.full(shape, NONE, np.int32)
        lengths = self.num_disliked(query_rows)[:, None]
        offsets = self.disliked.offsets[np.maximum(query_rows, 0)][:, None]
        places = offsets + np.floor(random.random(shape) * lengths).astype(np.int64)
        if not len(self.disliked.rows):
            return np.full(shape, NONE, np.int32)
        last = len(self.disliked.rows) - 1  # the place of an empty list may be behind all rows
        return np.where(lengths > 0, self.disliked.rows[np.minimum(places, last)], np.int32(NONE))

    def num_disliked(self, query_rows: Int[np.ndarray, "*S"]) -> Int32[np.ndarray, "*S"]:
        """Returns how many candidates each query disliked; 0 where there is no query (row -1)."""
        if self.disliked is None:
            return np.zeros(query_rows.shape, np.int32)
        offsets, rows = self.disliked.offsets, np.maximum(query_rows, 0)
        return np.where(query_rows == NONE, 0, offsets[rows + 1] - offsets[rows]).astype(np.int32)

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
        places = ends[:, None] - self.negatives.queue + np.arange(self.negatives.queue)
        queued = np.where(places < 0, np.int32(NONE), candidate_rows[np.maximum(places, 0)])
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
        there = positives[positives != NONE]
        if self.estimate is None:
            frequencies = self.negatives.frequencies[rows]
        else:
            self.estimate.update(*np.unique(there, return_counts=True), len(there))
            frequencies = self.estimate.of(rows)
        queued = shared[: self.negatives.queue]
        return self.negatives.probabilities(rows, frequencies, len(there) + int(np.sum(queued != NONE)))


class StreamFrequencies:
    """The frequency of each candidate in a stream of examples, estimated from the intervals between its occurrences.

    Yi et al. 2019, "Sampling-bias-corrected neural modeling", algorithm 2: a moving average of the interval between two
    occurrences, whose inverse is the frequency. Here intervals are counted in examples, not in batches, so that a
    candidate which occurs several times in each batch is estimated right; and the average is a plain mean until
    its weights fall to `rate`. Updates cost O(V) for V distinct candidates.
    """

    def __init__(self, num_rows: int, rate: float = 0.01):
        """Starts without any occurrence of `num_rows` candidate rows; `rate` is the weight of the newest interval."""
        self._rate = rate
        self._examples = 0
        self._last = np.zeros(num_rows, np.int64)
        self._seen = np.zeros(num_rows, np.int64)
        self._interval = np.full(num_rows, np.inf)

    def update(self, rows: Int[np.ndarray, "V"], counts: Int[np.ndarray, "V"], num_examples: int) -> None:
        """Takes in the next `num_examples` examples: the distinct candidate rows in them and how often each occurs."""
        self._examples += num_examples
        intervals = (self._examples - self._last[rows]) / counts
        seen = self._seen[rows] + counts
        kept = np.where(self._seen[rows] > 0, (1 - np.maximum(self._rate, 1 / seen)) ** counts, 0.0)
        old = np.where(kept > 0, self._interval[rows], 0.0)
        self._interval[rows] = kept * old + (1 - kept) * intervals
        self._last[rows], self._seen[rows] = self._examples, seen

    def of(self, rows: Int[np.ndarray, "V"]) -> Float64[np.ndarray, "V"]:
        """Returns the estimated share of each candidate row in the examples; 0 for one that has not occurred."""
        return 1 / self._interval[rows]
