"""Predictions of labels from means and biases alone: the baselines of heads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Float64, Int

DAMPING = 5.0  # labels at the mean that each candidate, or query, is taken to have besides its own
SWEEPS = 10  # of the two kinds of biases in turn
Rows = Int[np.ndarray, "n"]
Predictor = Callable[[Rows, Rows], Float64[np.ndarray, "n"]]  # (query rows, candidate rows) -> the expected labels


def mean(labels: Float[np.ndarray, "n"], queries: Rows, candidates: Rows) -> Predictor:
    """Returns the mean of all known labels, for every pair."""
    overall = float(np.mean(labels, dtype=np.float64))
    return lambda queries, candidates: np.full(len(queries), overall)


def candidate_mean(labels: Float[np.ndarray, "n"], queries: Rows, candidates: Rows) -> Predictor:
    """Returns the mean label of the candidate, drawn to that of all by `DAMPING` labels; that of all where unknown.

    >>> predict = candidate_mean(np.array([5.0, 5.0, 2.0]), np.array([1, 2, 1]), np.array([1, 1, 2]))
    >>> predict(np.array([1, 1, 1]), np.array([0, 1, 2])).round(4).tolist()  # 4, (2 * 5 + 5 * 4) / 7, (2 + 5 * 4) / 6
    [4.0, 4.2857, 3.6667]
    """
    overall = float(np.mean(labels, dtype=np.float64))
    biases = _biases(labels - overall, candidates, DAMPING)
    return lambda queries, candidates: overall + _take(biases, candidates)


def biases(labels: Float[np.ndarray, "n"], queries: Rows, candidates: Rows) -> Predictor:
    """Returns mean + bias of the query + bias of the candidate, fitted in turn by least squares with damping.

    Source: Koren 2010, "Factor in the neighbors", section 2.1. Rows of 0, the unknown ones, have a bias of 0.
    """
    overall = float(np.mean(labels, dtype=np.float64))
    query_biases, candidate_biases = np.zeros(1), np.zeros(1)
    for _ in range(SWEEPS):
        candidate_biases = _biases(labels - overall - _take(query_biases, queries), candidates, DAMPING)
        query_biases = _biases(labels - overall - _take(candidate_biases, candidates), queries, DAMPING)
    return lambda queries, candidates: overall + _take(query_biases, queries) + _take(candidate_biases, candidates)


PREDICTORS = {  # by the kind of the task; sums of biases are no probabilities
    "regression": {"mean": mean, "candidate_mean": candidate_mean, "biases": biases},
    "binary": {"mean": mean, "candidate_mean": candidate_mean},
}


def _biases(residuals: Float[np.ndarray, "n"], rows: Rows, damping: float) -> Float64[np.ndarray, "num_rows"]:
    """Returns the damped mean of the residuals of each row; 0 of row 0."""
    sums, numbers = np.bincount(rows, residuals), np.bincount(rows)
    damped = sums / (numbers + damping)
    damped[:1] = 0.0
    return damped


def _take(biases: Float64[np.ndarray, "num_rows"], rows: Rows) -> Float64[np.ndarray, "n"]:
    """Returns the biases of rows, 0 beyond those that train has."""
    return np.where(rows < len(biases), biases[np.minimum(rows, len(biases) - 1)], 0.0)
