"""How much of the truth a search finds, and how sure that is."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64
from numpy.typing import ArrayLike

from retrieval.index.arguments import Exclusions, as_positions, as_vectors
from retrieval.index.exact import score
from retrieval.index.interface import Searcher


def recall(index: Searcher, queries: ArrayLike, exact_rows: ArrayLike, excluded: Exclusions | None = None) -> float:
    """Returns the share of the exact top k that `index` finds, a mean over the queries that have one.

    A candidate counts if it scores at least as much as the worst of `exact_rows`: where several tie for
    the k-th place, any of them is right.

    >>> from retrieval.index import HnswIndex
    >>> index = HnswIndex.build([[4], [3], [3], [1]], M=16, ef_construction=100, ef=50, seed=0)
    >>> recall(index, [[1]], [[0, 2]])  # finds 0 and 1, and 1 scores like 2
    1.0

    Args:
      index: the index to measure.
      queries: [q, d].
      exact_rows: int [q, k], e.g. `ExactIndex.build(index.embeddings).search(queries, k)[1]`; -1 is no row.
      excluded: what the exact search excluded, as in `Searcher.search`.

    Raises:
      ValueError: `exact_rows` do not fit the index or the queries, or none is a row.
    """
    shares = recall_of_each(index, queries, exact_rows, excluded)
    return float(shares[~np.isnan(shares)].mean())


def recall_of_each(
    index: Searcher, queries: ArrayLike, exact_rows: ArrayLike, excluded: Exclusions | None = None
) -> Float64[np.ndarray, " q"]:
    """Returns the `recall` of each query, NaN where `exact_rows` has no row.

    Raises:
      ValueError: as `recall`.
    """
    vectors = as_vectors(queries, "queries", index.embeddings.shape[1])
    truth = np.asarray(exact_rows)
    if truth.ndim != 2 or len(truth) != len(vectors):
        raise ValueError(f"exact_rows must have shape [{len(vectors)}, k], got {truth.shape}")
    if not as_positions(truth[truth != -1], "exact_rows", len(index)).size:
        raise ValueError(f"exact_rows of shape {truth.shape} hold no row: there is nothing to find")
    scores, _ = index.search(vectors, truth.shape[1], excluded)
    exact_scores = score(index.embeddings, vectors, truth.astype(np.int32))
    worst = np.where(truth >= 0, exact_scores, np.inf).min(axis=1, keepdims=True)
    wanted = (truth >= 0).sum(axis=1)
    found = np.minimum((scores >= worst).sum(axis=1), wanted)
    return np.divide(found, wanted, out=np.full(len(wanted), np.nan), where=wanted > 0)


def lower_bound(shares: Float64[np.ndarray, " q"], z: float = 1.96) -> float:
    """Returns the lower end of Wilson's interval of a mean of shares, each query a cluster of k trials.

    The number of trials is the effective one, p (1 - p) over the variance of the mean; where no share differs from
    another, and at least, each query is one trial. Dean and Pagano (2015), "Evaluating confidence interval methods for
    binomial proportions in clustered surveys". O(q) time.

    >>> round(lower_bound(np.ones(1000)), 4)
    0.9962

    Args:
      shares: of each query, in [0, 1].
      z: quantile of the normal distribution, 1.96 for an interval of 95 %.
    """
    mean, trials = float(shares.mean()), float(len(shares))
    if len(shares) > 1 and (variance := float(shares.var(ddof=1))) > 0:
        trials = max(trials, trials * mean * (1 - mean) / variance)
    centre = mean + z * z / (2 * trials)
    spread = z * math.sqrt(mean * (1 - mean) / trials + z * z / (4 * trials * trials))
    return max(0.0, (centre - spread) / (1 + z * z / trials))
