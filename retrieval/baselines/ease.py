"""EASE: a linear model of items by items, in closed form."""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from jaxtyping import Float32
from scipy.sparse import csr_array

from retrieval.baselines.base import Scorer, Training, matrix, or_popularity
from retrieval.common.lists import Lists

BLOCK = 4096  # rows or columns that are computed at a time


def fit(training: Training, *, regularization: float, half_distance: float = 0.0) -> Scorer:
    """Scores by x B, with x the history: B minimises |X - X B|^2 + regularization |B|^2 with a diagonal of zeros.

    B = I - P / diag(P) by columns, with P = (X'X + regularization I)^-1 (Steck 2019). Where there are fewer queries
    than candidates, P comes from the inverse of the smaller XX' + regularization I. Takes O(min(Q, N)^3 + n N) time for
    n interactions, and memory for P in float32, 4 N^2 bytes, and for the other inverse beside it.

    X'X counts the queries that have both of two candidates. Where what is chosen together is close in time too, as in
    a session, near pairs tell more than far ones: with a `half_distance`, a pair with d steps from one to the other in
    the query's sequence counts 1 / (1 + d / half_distance), in O(N^3) time plus the pairs of all sequences.

    Args:
      training: what is learnt from.
      regularization: above 0; with a `half_distance`, where pairs count less, a smaller one.
      half_distance: at how many steps a pair counts half; 0: all count alike.

    Raises:
      ValueError: `regularization` or `half_distance` is not as above.
    """
    weights = weights_of(training, regularization, half_distance)

    def scores(histories: Lists) -> Float32[np.ndarray, "q N"]:
        return np.asarray(matrix(histories, training.num_candidates) @ weights)

    return or_popularity(scores, training)


def weights_of(training: Training, regularization: float, half_distance: float = 0.0) -> Float32[np.ndarray, "N N"]:
    """Returns B, which `fit` scores by: what each candidate of a history adds to the score of each other."""
    if not (half_distance >= 0 and np.isfinite(half_distance)):
        raise ValueError(f"half_distance must be finite and at least 0, got {half_distance}")
    interactions = matrix(training.histories, training.num_candidates)
    if half_distance:
        weights = _inverse(_near_pairs(training.sequences, training.num_candidates, half_distance), regularization)
    elif interactions.shape[0] < interactions.shape[1]:
        weights = _dual(interactions, regularization)
    else:
        weights = _inverse(_gram(interactions.T.tocsr()), regularization)
    weights /= -np.diag(weights).copy()
    np.fill_diagonal(weights, 0.0)
    return weights


def towers(
    training: Training, regularization: float, rank: int, half_distance: float = 0.0
) -> tuple[Float32[np.ndarray, "Q rank"], Float32[np.ndarray, "N rank"]]:
    """Returns embeddings of queries and candidates whose dot products are closest to the scores of the histories.

    They are X B V and V, with V the right singular vectors of X B of the `rank` largest values: among all scores of
    that rank, those at the least squared distance (Eckart and Young 1936). O(rank (n + N^2)) time an iteration.

    Args:
      training: what is learnt from.
      regularization: see `fit`.
      rank: above 0, and below the number of queries and of candidates.
      half_distance: see `fit`.

    Raises:
      ValueError: the rank is not.
    """
    interactions = matrix(training.histories, training.num_candidates)
    weights = weights_of(training, regularization, half_distance)
    if not 0 < rank < min(interactions.shape):
        raise ValueError(f"rank must be in (0, {min(interactions.shape)}), the least side of the data, got {rank}")
    product = scipy.sparse.linalg.LinearOperator(
        interactions.shape,
        matvec=lambda v: interactions @ (weights @ v.astype(np.float32)),
        rmatvec=lambda v: weights.T @ (interactions.T @ v.astype(np.float32)),
        dtype=np.float32,
    )
    start = np.full(min(interactions.shape), 1.0, np.float32)
    _, _, right = scipy.sparse.linalg.svds(product, k=rank, v0=start)
    candidates = np.ascontiguousarray(right[::-1].T, np.float32)
    return np.asarray(interactions @ (weights @ candidates)), candidates


def _dual(interactions: csr_array, regularization: float) -> Float32[np.ndarray, "N N"]:
    """Returns (X'X + r I)^-1 = (I - X' (XX' + r I)^-1 X) / r."""
    num_candidates = interactions.shape[1]
    inner = _inverse(_gram(interactions), regularization)
    by_candidate, result = interactions.T.tocsr(), np.empty((num_candidates, num_candidates), np.float32)
    for columns in _blocks(num_candidates):
        projected = (by_candidate[columns] @ inner).T  # [Q, columns]; `inner` is symmetric
        result[:, columns] = by_candidate @ np.ascontiguousarray(projected)
    result /= -np.float32(regularization)
    result[np.diag_indices(num_candidates)] += np.float32(1 / regularization)
    return result


def _gram(rows: csr_array) -> Float32[np.ndarray, "n n"]:
    """Returns all dot products of the rows; some at a time, as sparse products that are mostly not zero are large."""
    gram, columns = np.empty((rows.shape[0],) * 2, np.float32), rows.T.tocsr()
    for block in _blocks(len(gram)):
        gram[block] = (rows[block] @ columns).toarray()
    return gram


def _near_pairs(sequences: Lists, num_candidates: int, half_distance: float) -> Float32[np.ndarray, "N N"]:
    """Returns the sum over all pairs of a sequence of 1 / (1 + their distance / half_distance), by candidates."""
    total = np.zeros((num_candidates, num_candidates), np.float32)
    steps = np.arange(sequences.lengths.max(initial=0), dtype=np.float32)
    distance_weights = scipy.linalg.toeplitz(1 / (1 + steps / np.float32(half_distance)))
    for query in range(len(sequences)):
        members = sequences[query]  # distinct, so that no pair is written twice
        total[members[:, None], members] += distance_weights[: len(members), : len(members)]
    return total


def _inverse(gram: Float32[np.ndarray, "n n"], regularization: float) -> Float32[np.ndarray, "n n"]:
    """Returns (gram + regularization I)^-1, in the memory of `gram`.

    Blocks of rows and columns are swept one after the other (Goodnight 1979), in the lower half alone: n^3 operations
    in matrix products. (LAPACK as built for SciPy has integers of 32 bits, and fails from some 30,000 rows on.)

    Raises:
      ValueError: `regularization` is not above 0.
    """
    if not regularization > 0:
        raise ValueError(f"regularization must be above 0, got {regularization}")
    gram[np.diag_indices(len(gram))] += np.float32(regularization)
    blocks = list(_blocks(len(gram)))
    for swept in blocks:
        factor = scipy.linalg.cho_factor(_symmetric(gram[swept, swept]), overwrite_a=True, check_finite=False)
        pivot = scipy.linalg.cho_solve(factor, np.eye(len(factor[0]), dtype=np.float32), check_finite=False)
        column = np.concatenate([gram[swept, : swept.start].T, np.zeros_like(pivot), gram[swept.stop :, swept]])
        scaled = column @ pivot
        for rows in blocks:
            gram[rows, : rows.stop] -= scaled[rows] @ column[: rows.stop].T
        gram[swept, : swept.start], gram[swept.stop :, swept] = scaled[: swept.start].T, scaled[swept.stop :]
        gram[swept, swept] = -pivot
    for rows in blocks:
        gram[rows, rows] = _symmetric(gram[rows, rows])
        gram[: rows.start, rows] = gram[rows, : rows.start].T
    np.negative(gram, out=gram)
    return gram


def _blocks(size: int) -> list[slice]:
    return [slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK)]


def _symmetric(lower: Float32[np.ndarray, "n n"]) -> Float32[np.ndarray, "n n"]:
    """Returns the symmetric matrix with this lower half."""
    return np.tril(lower) + np.tril(lower, -1).T
