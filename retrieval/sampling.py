"""Probabilities of candidates, from their counts in the training part."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Shaped


def penalty_scale(counts: Shaped[np.ndarray, "num_rows"], power: float) -> Float32[np.ndarray, "num_rows"]:
    """Returns what to multiply a penalty by that each example adds, for a row's sum of them to grow as count ** power.

    The mean over the examples stays 1. Source: Rendle et al. 2021, "Revisiting the performance of iALS on item
    recommendation benchmarks", section 3.3, where the exponent is called nu.

    >>> penalty_scale(np.array([0, 1, 4]), 0.5).round(3)
    array([1.667, 1.667, 0.833], dtype=float32)
    """
    scale = np.maximum(counts, 1.0) ** (power - 1.0)
    total = float(np.sum(counts))
    return (scale * (total / np.sum(scale * counts) if total else 1.0)).astype(np.float32)


def log_prior(counts: Shaped[np.ndarray, "num_rows"]) -> Float32[np.ndarray, "num_rows"]:
    """Returns the log of each candidate row's probability, over that of a candidate never seen in train.

    Counts are smoothed by 1/2, so that the log of an unseen candidate is finite, and 0: log((n + 1/2) / (1/2)).

    >>> log_prior(np.array([0, 3, 1])).round(2)
    array([0.  , 1.95, 1.1 ], dtype=float32)
    """
    return np.log1p(2 * counts).astype(np.float32)


def entropy(counts: Shaped[np.ndarray, "num_rows"]) -> float:
    """Returns the entropy of the candidates' shares of train, in nats; 0 without any.

    It is the least cross-entropy that a ranking can have which is the same for every query.

    >>> round(entropy(np.array([0, 2, 2])), 4)
    0.6931
    """
    positive = counts[counts > 0].astype(np.float64)
    shares = positive / positive.sum()
    return float(-np.sum(shares * np.log(shares)))
