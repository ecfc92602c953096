"""Recall of an index against exact search."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from retrieval.index.checks import Exclusions, as_positions, as_vectors
from retrieval.index.exact.scoring import score
from retrieval.index.interface import Searcher


def recall(index: Searcher, queries: ArrayLike, exact_rows: ArrayLike, excluded: Exclusions | None = None) -> float:
    """Measures recall@k: the share of the exact top k that `index` finds, a mean over the queries with such a list.

    A candidate counts if it scores at least as much as the worst of `exact_rows`: where several candidates tie for the
    k-th place, any of them is right.

    >>> from retrieval.index import HnswIndex
    >>> index = HnswIndex.build([[4], [3], [3], [1]], M=16, ef_construction=100, ef=50, seed=0)
    >>> recall(index, [[1]], [[0, 2]])  # finds 0 and 1, and 1 scores like 2
    1.0

    Args:
      index: the index to measure.
      queries: [q, d].
      exact_rows: int [q, k], e.g. `ExactIndex.build(index.embeddings).search(queries, k)[1]`; -1 is padding.
      excluded: the exclusions of the exact search, as in `Searcher.search`.

    Raises:
      ValueError: `exact_rows` do not fit the index or the queries, or are padding only.
    """
    shares = recall_of_each(index, queries, exact_rows, excluded)
    return float(shares[~np.isnan(shares)].mean())


def recall_of_each(
    index: Searcher, queries: ArrayLike, exact_rows: ArrayLike, excluded: Exclusions | None = None
) -> Float64[np.ndarray, " q"]:
    """Measures the `recall` of each query; NaN where `exact_rows` is padding only.

    Raises:
      ValueError: as `recall`.
    """
    vectors = as_vectors(queries, "queries", index.embeddings.shape[1])
    truth = np.asarray(exact_rows)
    if truth.ndim != 2 or len(truth) != len(vectors):
        raise ValueError(f"exact_rows must have shape [{len(vectors)}, k], got {truth.shape}")
    if not as_positions(truth[truth != -1], "exact_rows", len(index)).size:
        raise ValueError(f"exact_rows must have at least one row of the index, got only -1 of shape {truth.shape}")
    scores, _ = index.search(vectors, truth.shape[1], excluded)
    exact_scores = score(index.embeddings, vectors, truth.astype(np.int32))
    worst = np.where(truth >= 0, exact_scores, np.inf).min(axis=1, keepdims=True)
    wanted = (truth >= 0).sum(axis=1)
    found = np.minimum((scores >= worst).sum(axis=1), wanted)
    return np.divide(found, wanted, out=np.full(len(wanted), np.nan), where=wanted > 0)
