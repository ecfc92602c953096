"""Frequencies of candidates estimated from a stream of examples."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int


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
