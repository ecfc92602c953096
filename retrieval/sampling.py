"""Probabilities of candidates, from their counts in the training part."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Shaped

HALF_COUNT = 0.5  # of a candidate never seen in train, so that its log-probability is finite and the lowest


def in_batch_probabilities(counts: Shaped[np.ndarray, "num_rows"]) -> Float32[np.ndarray, "num_rows"]:
    """Returns the probability that a place in a batch holds each candidate row: its share of the examples.

    >>> in_batch_probabilities(np.array([0, 3, 1]))
    array([0.  , 0.75, 0.25], dtype=float32)
    """
    return (counts / counts.sum()).astype(np.float32)


def log_prior(counts: Shaped[np.ndarray, "num_rows"]) -> Float32[np.ndarray, "num_rows"]:
    """Returns the log of each candidate row's share of the examples, with 1/2 added to every count.

    >>> log_prior(np.array([0, 3, 1])).round(2)
    array([-2.4 , -0.45, -1.3 ], dtype=float32)
    """
    smoothed = counts + HALF_COUNT
    return np.log(smoothed / smoothed.sum()).astype(np.float32)
