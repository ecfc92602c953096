"""Estimates the frequencies of candidates from a stream of examples."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int


class StreamFrequencies:
    """Frequency of each candidate in a stream, estimated from the intervals between its occurrences.

    Yi et al. 2019, "Sampling-bias-corrected neural modeling for large corpus item recommendations", algorithm 2: the
    frequency is the inverse of a moving average of the interval between two occurrences,

        interval <- (1 - a) * interval + a * (examples since the last occurrence)

    Unlike there, intervals are counted in examples, not in batches, so that the estimate also holds for a candidate
    that occurs several times in each batch. And a = max(rate, 1 / n) for the n-th occurrence: a plain mean first, which
    has no bias towards an initial value.
    """

    def __init__(self, num_rows: int, rate: float = 0.01):
        """Starts with no occurrence of any of `num_rows` candidate rows.

        Args:
          num_rows: rows of the candidate vocabulary.
          rate: weight of the newest interval, in (0, 1], after the first 1 / rate occurrences.
        """
        self._rate = rate
        self._examples = 0
        self._last = np.zeros(num_rows, np.int64)
        self._seen = np.zeros(num_rows, np.int64)
        self._interval = np.full(num_rows, np.inf)

    def update(self, rows: Int[np.ndarray, "V"], counts: Int[np.ndarray, "V"], num_examples: int) -> None:
        """Updates the estimate with the next `num_examples` examples, in O(V) time.

        Args:
          rows: distinct candidate rows of the examples [V].
          counts: number of occurrences of each of them [V].
          num_examples: number of examples.
        """
        self._examples += num_examples
        # occurrences within one update count as evenly spaced: `counts` equal intervals, averaged at once
        intervals = (self._examples - self._last[rows]) / counts
        seen = self._seen[rows] + counts
        kept = np.where(self._seen[rows] > 0, (1 - np.maximum(self._rate, 1 / seen)) ** counts, 0.0)
        previous = np.where(kept > 0, self._interval[rows], 0.0)  # without the infinite interval of a new candidate
        self._interval[rows] = kept * previous + (1 - kept) * intervals
        self._last[rows], self._seen[rows] = self._examples, seen

    def frequencies(self, rows: Int[np.ndarray, "V"]) -> Float64[np.ndarray, "V"]:
        """Returns the estimated share of each candidate row in the examples; 0 without an occurrence."""
        return 1 / self._interval[rows]
