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


def hit_rate_at(ranks: Places, relevant: Lists, k: int) -> PerQuery:
    """Returns 1 for each query with a hit among its first k, else 0; NaN where nothing is relevant.

    >>> hit_rate_at(np.array([0, 2, 9]), Lists.from_sequences([[5, 6], [7], []]), 3)
    array([ 1.,  0., nan])
    """
    return np.where(relevant.lengths > 0, np.minimum(hits_at(ranks, relevant, k), 1.0), np.nan)


def reciprocal_rank_at(ranks: Places, relevant: Lists, k: int) -> PerQuery:
    """Returns 1 / (place of the first hit, from 1 on) of each query, 0 without a hit among the first k.

    NaN where nothing is relevant. Its mean over the queries is the MRR (Voorhees 1999).

    >>> reciprocal_rank_at(np.array([3, 1, 9]), Lists.from_sequences([[5, 6], [7]]), 4)
    array([0.5, 0. ])
    """
    best = np.full(len(relevant), np.inf)
    hits = np.flatnonzero(ranks < k)
    np.minimum.at(best, relevant.owners[hits], ranks[hits])
    return np.where(relevant.lengths > 0, 1 / (best + 1), np.nan)


def average_precision_at(ranks: Places, relevant: Lists, k: int) -> PerQuery:
    """Returns the average precision of each query; NaN where nothing is relevant.

    AP = sum over hits of (hits up to its place) / (its place, from 1 on), divided by min(k, number of relevant
    candidates), so that a perfect list has 1. Its mean over the queries is the MAP. Peers differ: some divide by the
    number of hits, which rewards finding fewer.

    Args:
      ranks: places in one list, no two of a query the same.
      relevant: which query each belongs to.
      k: the length of the list.

    >>> average_precision_at(np.array([3, 0, 9]), Lists.from_sequences([[5, 6, 7]]), 4)  # (1 / 1 + 2 / 4) / 3
    array([0.5])
    """
    hits = np.flatnonzero(ranks < k)
    owners, places = relevant.owners[hits], ranks[hits]
    order = np.lexsort((places, owners))
    counts = np.bincount(owners, minlength=len(relevant))
    first = np.repeat(np.cumsum(counts) - counts, counts)
    precisions = (np.arange(len(hits)) - first + 1) / (places[order] + 1.0)
    sums = np.bincount(owners[order], weights=precisions, minlength=len(relevant))
    with np.errstate(invalid="ignore"):
        return sums / np.minimum(relevant.lengths, k)


def auc(ranks: Places, relevant: Lists, num_ranked: Int[np.ndarray, "num_queries"]) -> PerQuery:
    """Returns the area under the ROC curve of each query.

    It is the mean, over the relevant candidates, of the share of the others that stand behind it. With mean ranks,
    those of equal score count half. From R ranks r among M candidates it is 1 - (sum r - R (R - 1) / 2) / (R (M - R)),
    as the relevant ones stand R (R - 1) / 2 times before each other (Hanley and McNeil 1982).

    Args:
      ranks: `Ranks.mean`; a relevant candidate that is excluded has a rank from M on, and stands behind all.
      relevant: which query each belongs to, no candidate twice.
      num_ranked: how many candidates of each query are not excluded, M.

    Returns:
      A value per query; NaN where nothing is relevant or nothing else is left.

    >>> auc(np.array([0, 2.5]), Lists.from_sequences([[5, 6]]), np.array([5]))  # stand before 3 and 1.5 of 3
    array([0.75])
    """
    owners, num_relevant = relevant.owners, relevant.lengths
    placed = ranks < num_ranked[owners]
    num_placed = np.bincount(owners[placed], minlength=len(relevant))
    others = num_ranked - num_placed
    before = np.bincount(owners[placed], weights=ranks[placed], minlength=len(relevant))
    before = before - num_placed * (num_placed - 1) / 2 + (num_relevant - num_placed) * others
    with np.errstate(invalid="ignore"):
        return 1 - before / (num_relevant * others)


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
