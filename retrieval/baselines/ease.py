"""EASE: a linear model of items by items, in closed form."""

from __future__ import annotations

import numpy as np
import scipy.linalg
from jaxtyping import Float32
from scipy.sparse import csr_array

from retrieval.baselines.training import Scorer, Training, matrix, or_popularity
from retrieval.lists import Lists

COLUMNS = 2048  # of the dual form that are computed at a time


def fit(training: Training, *, regularization: float) -> Scorer:
    """Scores by x B, with x the history: B minimises |X - X B|^2 + regularization |B|^2 with a diagonal of zeros.

    B = I - P / diag(P) by columns, with P = (X'X + regularization I)^-1 (Steck 2019). Where there are fewer queries
    than candidates, P comes from the inverse of the smaller XX' + regularization I. Takes O(min(Q, N)^3 + n N) time for
    n interactions, and memory for P in float32, 4 N^2 bytes, and for the other inverse beside it.

    Args:
      training: what is learnt from.
      regularization: above 0.
    """
    interactions = matrix(training.histories, training.num_candidates)
    inverse = _dual(interactions, regularization)
    if inverse is None:
        inverse = _inverse(_gram(interactions.T.tocsr()), regularization)
    weights = inverse
    weights /= -np.diag(inverse).copy()
    np.fill_diagonal(weights, 0.0)

    def scores(histories: Lists) -> Float32[np.ndarray, "q N"]:
        return np.asarray(matrix(histories, training.num_candidates) @ weights)

    return or_popularity(scores, training)


def _dual(interactions: csr_array, regularization: float) -> Float32[np.ndarray, "N N"] | None:
    """Returns (X'X + r I)^-1 = (I - X' (XX' + r I)^-1 X) / r; None where that is no less work."""
    num_queries, num_candidates = interactions.shape
    if num_queries >= num_candidates:
        return None
    inner = _inverse(_gram(interactions), regularization)
    by_candidate, result = interactions.T.tocsr(), np.empty((num_candidates, num_candidates), np.float32)
    for start in range(0, num_candidates, COLUMNS):
        columns = slice(start, start + COLUMNS)
        projected = (by_candidate[columns] @ inner).T  # [Q, columns]; `inner` is symmetric
        result[:, columns] = by_candidate @ np.ascontiguousarray(projected)
    result /= -np.float32(regularization)
    result[np.diag_indices(num_candidates)] += np.float32(1 / regularization)
    return result


def _gram(rows: csr_array) -> Float32[np.ndarray, "n n"]:
    """Returns all dot products of the rows, in LAPACK's order of memory; some at a time, as most may not be zero."""
    gram, columns = np.empty((rows.shape[0],) * 2, np.float32, order="F"), rows.T.tocsr()
    for start in range(0, rows.shape[0], COLUMNS):
        block = slice(start, start + COLUMNS)
        gram[:, block] = (rows[block] @ columns).toarray().T
    return gram


def _inverse(gram: Float32[np.ndarray, "n n"], regularization: float) -> Float32[np.ndarray, "n n"]:
    """Returns (gram + regularization I)^-1 by Cholesky's factors, in the memory of `gram`.

    Raises:
      ValueError: `regularization` is not above 0.
    """
    if not regularization > 0:
        raise ValueError(f"regularization must be above 0, got {regularization}")
    gram[np.diag_indices(len(gram))] += np.float32(regularization)
    factor, failed = scipy.linalg.lapack.spotrf(gram, lower=True, clean=False, overwrite_a=True)
    if not failed:
        inverse, failed = scipy.linalg.lapack.spotri(factor, lower=True, overwrite_c=True)
    if failed:
        raise ValueError(f"the products of the interactions are singular at regularization {regularization}: raise it")
    for start in range(0, len(inverse), COLUMNS):  # the upper half, which is not computed, from the lower
        rows = slice(start, start + COLUMNS)
        block = inverse[rows, rows]
        inverse[rows, rows] = np.tril(block) + np.tril(block, -1).T
        inverse[rows, start + COLUMNS :] = inverse[start + COLUMNS :, rows].T
    return inverse
