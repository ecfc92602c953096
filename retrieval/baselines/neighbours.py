"""Item-based nearest neighbours: candidates that the same queries have as those of the history."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from jaxtyping import Float, Float32

from retrieval.baselines.base import Scorer, Training, matrix, or_popularity
from retrieval.common.lists import Lists

BLOCK_VALUES = 2**22  # similarities in memory at a time, at most


def cosine(training: Training, *, neighbours: int, shrinkage: float = 0.0) -> Scorer:
    """Scores a candidate by its similarity to those of the history, the sum over them (Sarwar et al. 2001).

    The similarity of two candidates is the number of queries that have both / (sqrt(n_i n_j) + shrinkage), with the
    numbers n of queries that have each: the cosine, if nothing is shrunk.

    Args:
      training: what is learnt from.
      neighbours: how many similar candidates of each are kept, and those as similar as the last of them.
      shrinkage: makes candidates that few queries have less similar to all.
    """
    by_candidate = matrix(training.histories, training.num_candidates).T.tocsr()
    norms = np.sqrt(training.counts).astype(np.float32)

    def similar(rows, products: scipy.sparse.csr_array) -> Float[np.ndarray, "n"]:
        row_norms = np.repeat(norms[rows], np.diff(products.indptr))
        return products.data / (row_norms * norms[products.indices] + np.float32(shrinkage))

    return _scorer(training, by_candidate, neighbours, similar)


def bm25(training: Training, *, neighbours: int, k1: float, b: float) -> Scorer:
    """Scores as `cosine` does, by dot products of BM25 weights instead of cosines (Robertson and Zaragoza 2009).

    Candidates are the documents, queries the terms in them: an interaction weighs
    (k1 + 1) / (k1 (1 - b + b n_i / mean n) + 1) * (log N - log(1 + m_q)), for a candidate that n_i queries have and a
    query that has m_q of the N candidates. So does the library implicit.

    Args:
      training: what is learnt from.
      neighbours: how many similar candidates of each are kept.
      k1: how soon the weight saturates.
      b: how much popular candidates weigh less.
    """
    counts = training.counts
    lengths = 1 - b + b * counts / max(counts.mean(), 1e-9)
    weights = (k1 + 1) / (k1 * lengths + 1)
    rarity = np.log(max(training.num_candidates, 1)) - np.log1p(training.histories.lengths)
    by_query = matrix(training.histories, training.num_candidates)
    by_query.data = (weights[training.histories.rows] * rarity[training.histories.owners]).astype(np.float32)
    return _scorer(training, by_query.T.tocsr(), neighbours, lambda rows, products: products.data)


def _scorer(training: Training, by_candidate: scipy.sparse.csr_array, neighbours: int, similar) -> Scorer:
    similarities = _nearest(by_candidate, neighbours, similar)

    def scores(histories: Lists) -> Float32[np.ndarray, "q N"]:
        return (matrix(histories, training.num_candidates) @ similarities).toarray().astype(np.float32, copy=False)

    return or_popularity(scores, training)


def _nearest(by_candidate: scipy.sparse.csr_array, neighbours: int, similar) -> scipy.sparse.csr_array:
    """Returns the similarities [N, N] of each candidate, a row, to the most similar others.

    `similar(rows, products)` makes them of the dot products of some rows of `by_candidate` [N, Q] with all.
    """
    num_candidates, by_query = by_candidate.shape[0], by_candidate.T.tocsr()
    sizes = np.diff(by_query.indptr)
    work = np.cumsum(by_candidate @ sizes.astype(np.float64))  # bounds the number of products of the rows so far
    blocks = np.split(np.arange(num_candidates), np.searchsorted(work, np.arange(BLOCK_VALUES, work[-1], BLOCK_VALUES)))
    kept = [_most_similar(rows, by_candidate[rows] @ by_query, neighbours, similar) for rows in blocks if len(rows)]
    return scipy.sparse.vstack(kept, format="csr")


def _most_similar(rows, products: scipy.sparse.csr_array, neighbours: int, similar) -> scipy.sparse.csr_array:
    values, owners = similar(rows, products), np.repeat(np.arange(len(rows)), np.diff(products.indptr))
    values = np.where(rows[owners] == products.indices, np.float32(0), values)  # a candidate is no neighbour of itself
    keep = values > 0
    for row in np.flatnonzero(np.diff(products.indptr) > neighbours):
        part = slice(products.indptr[row], products.indptr[row + 1])
        enough = np.partition(values[part], -neighbours)[-neighbours]
        keep[part] &= values[part] >= enough
    kept = values[keep].astype(np.float32), (owners[keep], products.indices[keep])
    return scipy.sparse.csr_array(kept, products.shape)
