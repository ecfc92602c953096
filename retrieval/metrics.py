"""Ranking metrics from exact ranks; pure NumPy.

`ranks` are places in the list that a query gets, 0 the first, one per relevant candidate; `relevant` tells which
query each belongs to. User-level metrics return one value per query, so that the caller can average, slice or
resample them.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int, Shaped

from retrieval.lists import Lists

Places = Shaped[np.ndarray, "total"]
PerQuery = Float64[np.ndarray, "num_queries"]


def top_k_accuracy(ranks: Places, k: int) -> float:
    """Returns the share of interactions whose candidate is among the first k (TensorFlow Recommenders).

    >>> top_k_accuracy(np.array([0, 4, 5, 9]), 5)
    0.5
    """
    return float(np.mean(ranks < k)) if len(ranks) else float("nan")


def hits_at(ranks: Places, relevant: Lists, k: int) -> Int[np.ndarray, "num_queries"]:
    """Returns the number of relevant candidates among the first k of each query."""
    return np.bincount(relevant.owners, weights=ranks < k, minlength=len(relevant)).astype(np.int64)


def precision_at(ranks: Places, relevant: Lists, k: int) -> PerQuery:
    """Returns hits / k of each query; k stays the divisor where fewer candidates are left.

    >>> precision_at(np.array([0, 2, 9]), Lists.from_sequences([[5, 6, 7]]), 2)
    array([0.5])
    """
    return hits_at(ranks, relevant, k) / k


def recall_at(ranks: Places, relevant: Lists, k: int) -> PerQuery:
    """Returns hits / number of relevant candidates of each query; NaN where there is none.

    Peers differ: ALX divides by min(k, number of relevant candidates).

    >>> recall_at(np.array([0, 2, 9]), Lists.from_sequences([[5, 6, 7]]), 3).round(3)
    array([0.667])
    """
    with np.errstate(invalid="ignore"):
        return hits_at(ranks, relevant, k) / relevant.lengths


def ndcg_at(ranks: Places, relevant: Lists, k: int) -> PerQuery:
    """Returns DCG / ideal DCG of each query with binary relevance; NaN where nothing is relevant.

    DCG = sum over hits of 1 / log2(rank + 2); the ideal list has its min(k, number of relevant candidates) hits
    first (Jarvelin and Kekalainen 2002).

    >>> ndcg_at(np.array([1, 9]), Lists.from_sequences([[5, 6]]), 2).round(4)  # (1 / log2 3) / (1 + 1 / log2 3)
    array([0.3869])
    """
    gains = np.where(ranks < k, 1 / np.log2(ranks + 2.0), 0.0)
    dcg = np.bincount(relevant.owners, weights=gains, minlength=len(relevant))
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(k) + 2.0))])
    with np.errstate(invalid="ignore"):
        return dcg / ideal[np.minimum(relevant.lengths, k)]
