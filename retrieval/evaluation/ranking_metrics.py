"""Ranking metrics from exact ranks; pure NumPy.

`Placed` has the places of the relevant candidates in the list that their query gets, 0 the first. Metrics return one
value per query, so that the caller can average, slice or resample them, and share what one `Placed` computes once.

Query-level metrics weigh every query the same, and want no candidate of a query twice. At the interaction level each
relevant interaction is a query of its own that has one relevant candidate, and a repeated interaction counts again:
`interaction_...` return means over the interactions of each query, of which the mean with `Placed.num_relevant` as
weights is the figure over all interactions.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
from jaxtyping import Float64, Int, Int64, Shaped

from retrieval.common.lists import Lists

Places = Shaped[np.ndarray, "total"]
Values = Float64[np.ndarray, "num_queries"]


@dataclasses.dataclass(frozen=True)
class Placed:
    """The places of relevant candidates, and what the metrics at every k share, computed when first asked for.

    Sorting the places takes O(total log total) time, once; a metric at one k then O(total + num_queries).

    Attributes:
      ranks: place of each relevant candidate, 0 the first, of any number type [total]; one that is not ranked has a
        place behind the corpus, as in `Ranks`.
      relevant: which query each belongs to.

    Raises:
      ValueError: there is not one rank per relevant candidate.
    """

    ranks: Places
    relevant: Lists

    def __post_init__(self) -> None:
        if len(self.ranks) != len(self.relevant.rows):
            raise ValueError(f"give a rank per relevant candidate: {len(self.ranks)} != {len(self.relevant.rows)}")

    @functools.cached_property
    def num_relevant(self) -> Int64[np.ndarray, "num_queries"]:
        """The number of relevant candidates of each query."""
        return self.relevant.lengths

    @functools.cached_property
    def owners(self) -> Int64[np.ndarray, "total"]:
        """The query of each relevant candidate."""
        return self.relevant.owners

    @functools.cached_property
    def by_place(self) -> Places:
        """The ranks of each query in ascending order."""
        starts = self.owners * (self.ranks.max(initial=0) + 1)  # one sort of numbers: a query's are behind the last's
        return np.sort(starts + self.ranks) - starts

    @functools.cached_property
    def precisions(self) -> Float64[np.ndarray, "total"]:
        """The share of relevant candidates up to and with the place of each, in the order of `by_place`."""
        before = np.arange(len(self.owners)) - self.relevant.offsets[self.owners]
        return (before + 1) / (self.by_place + 1.0)

    @functools.cached_property
    def gains(self) -> Float64[np.ndarray, "total"]:
        """The gain 1 / log2(rank + 2) of each relevant candidate, in the order of `by_place`."""
        return 1 / np.log2(self.by_place + 2.0)

    @functools.cached_property
    def best(self) -> Values:
        """The best rank of each query, infinity where nothing is relevant."""
        best = np.full(len(self.relevant), np.inf)
        has_relevant = self.num_relevant > 0
        best[has_relevant] = self.by_place[self.relevant.offsets[:-1][has_relevant]]
        return best

    def sums(self, values: Float64[np.ndarray, "total"], k: int) -> Values:
        """Returns the sum of `values`, in the order of `by_place`, over the hits among the first k of each query."""
        hits = np.flatnonzero(self.by_place < k)
        sums = np.bincount(self.owners[hits], weights=values[hits], minlength=len(self.relevant))
        return sums.astype(np.float64, copy=False)  # without hits NumPy returns integers


def per(sums: Shaped[np.ndarray, "num_queries"], counts: Shaped[np.ndarray, "num_queries"]) -> Values:
    """Returns sums / counts of each query, NaN where a count is 0.

    >>> per(np.array([1, 0]), np.array([2, 0]))
    array([0.5, nan])
    """
    return np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts != 0)


def top_k_accuracy(ranks: Places, k: int) -> float:
    """Returns the share of interactions whose candidate is among the first k (TensorFlow Recommenders).

    >>> top_k_accuracy(np.array([0, 4, 5, 9]), 5)
    0.5
    """
    return float(np.mean(ranks < k)) if len(ranks) else float("nan")


def hits_at(placed: Placed, k: int) -> Int64[np.ndarray, "num_queries"]:
    """Returns the number of relevant candidates among the first k of each query.

    >>> hits_at(Placed(np.array([0, 2, 9]), Lists.from_sequences([[5, 6], [7]])), 3)
    array([2, 0])
    """
    return np.bincount(placed.owners[placed.by_place < k], minlength=len(placed.relevant))


def precision_at(placed: Placed, k: int) -> Values:
    """Returns hits / k of each query; k stays the divisor where fewer candidates are left.

    It is the precision at k of Manning et al. 2008, ch. 8.4, of TensorFlow Recommenders, RecBole and trec_eval's P.
    implicit's is another figure: the hits of all queries / the sum of their min(k, number of relevant candidates).

    >>> precision_at(Placed(np.array([0, 2, 9]), Lists.from_sequences([[5, 6, 7]])), 2)  # 1 / 2
    array([0.5])
    """
    return hits_at(placed, k) / k


def recall_at(placed: Placed, k: int) -> Values:
    """Returns hits / number of relevant candidates of each query; NaN where there is none.

    It is the recall of Manning et al. 2008, ch. 8.3, of TensorFlow Recommenders, RecBole and trec_eval; for what ALX
    calls recall see `capped_recall_at`.

    >>> recall_at(Placed(np.array([0, 2, 9]), Lists.from_sequences([[5, 6, 7]])), 3).round(3)  # 2 / 3
    array([0.667])
    """
    return per(hits_at(placed, k), placed.num_relevant)


def capped_recall_at(placed: Placed, k: int) -> Values:
    """Returns hits / min(k, number of relevant candidates) of each query, so that a perfect list has 1.

    NaN where nothing is relevant. It is the recall of Liang et al. 2018 (Mult-VAE) and ALX; RecBole and trec_eval
    have none.

    >>> capped_recall_at(Placed(np.array([0, 2, 9]), Lists.from_sequences([[5, 6, 7]])), 2)  # 1 / min(2, 3)
    array([0.5])
    """
    return per(hits_at(placed, k), np.minimum(placed.num_relevant, k))


def hit_rate_at(placed: Placed, k: int) -> Values:
    """Returns 1 for each query with a hit among its first k, else 0; NaN where nothing is relevant.

    Its mean over the queries is the hit rate (Deshpande and Karypis 2004). So do RecBole's hit and trec_eval's success.

    >>> hit_rate_at(Placed(np.array([0, 2, 9]), Lists.from_sequences([[5, 6], [7], []])), 3)
    array([ 1.,  0., nan])
    """
    return np.where(placed.num_relevant > 0, placed.best < k, np.nan)


def reciprocal_rank_at(placed: Placed, k: int) -> Values:
    """Returns 1 / (place of the first hit, from 1 on) of each query, 0 without a hit among the first k.

    NaN where nothing is relevant. Its mean over the queries is the MRR (Voorhees 1999). So does RecBole; trec_eval's
    recip_rank has no k and looks at the whole list.

    >>> reciprocal_rank_at(Placed(np.array([3, 1, 9]), Lists.from_sequences([[5, 6], [7]])), 4)  # 1 / 2
    array([0.5, 0. ])
    """
    return np.where(placed.num_relevant > 0, (placed.best < k) / (placed.best + 1), np.nan)


def average_precision_at(placed: Placed, k: int) -> Values:
    """Returns the average precision of each query; NaN where nothing is relevant.

    AP = sum over hits of (hits up to its place) / (its place, from 1 on), divided by min(k, number of relevant
    candidates), so that a perfect list has 1; no two ranks of a query may be the same. Its mean over the queries is
    the MAP (Manning et al. 2008, ch. 8.4). So do implicit and RecBole. trec_eval's map_cut divides by the number of
    relevant candidates also where k is lower; some divide by the number of hits, which rewards finding fewer.

    >>> placed = Placed(np.array([3, 0, 9]), Lists.from_sequences([[5, 6, 7]]))
    >>> average_precision_at(placed, 4)  # (1 / 1 + 2 / 4) / 3
    array([0.5])
    """
    return per(placed.sums(placed.precisions, k), np.minimum(placed.num_relevant, k))


def ndcg_at(placed: Placed, k: int) -> Values:
    """Returns DCG / ideal DCG of each query with binary relevance; NaN where nothing is relevant.

    DCG = sum over hits of 1 / log2(rank + 2); the ideal list has its min(k, number of relevant candidates) hits
    first (Jarvelin and Kekalainen 2002). So do implicit, RecBole and trec_eval's ndcg_cut.

    >>> placed = Placed(np.array([1, 9]), Lists.from_sequences([[5, 6]]))
    >>> ndcg_at(placed, 2).round(4)  # (1 / log2 3) / (1 + 1 / log2 3)
    array([0.3869])
    """
    most = min(k, int(placed.num_relevant.max(initial=0)))  # hits of an ideal list, however long it is
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(most) + 2.0))])
    return per(placed.sums(placed.gains, k), ideal[np.minimum(placed.num_relevant, most)])


def mean_rank(placed: Placed) -> Values:
    """Returns the mean place, from 1 on, of the relevant candidates of each query; NaN where there is none.

    It is sum (rank + 1) / number of relevant candidates, the mean rank of link prediction (Bordes et al. 2013); Hu et
    al. 2008 take places as a percentage of the corpus. With `Ranks.mean`, those of equal score share the mean of their
    places. One that is excluded, or has no score, counts with the rank that it has: `Ranks` puts it behind the corpus,
    in place N + 1, so that leaving out what is wanted is never rewarded. The mean falls with fewer candidates: compare
    figures of one corpus and one exclusion.

    >>> mean_rank(Placed(np.array([0, 4.5, 9]), Lists.from_sequences([[5, 6], [7]])))  # (1 + 5.5) / 2, 10 / 1
    array([ 3.25, 10.  ])
    """
    sums = np.bincount(placed.owners, weights=placed.ranks + 1.0, minlength=len(placed.relevant))
    return per(sums, placed.num_relevant)


def auc(placed: Placed, num_ranked: Int[np.ndarray, "num_queries"]) -> Values:
    """Returns the area under the ROC curve of each query.

    It is the mean, over the relevant candidates, of the share of the others that stand behind it. With mean ranks,
    those of equal score count half. From R ranks r among M candidates it is 1 - (sum r - R (R - 1) / 2) / (R (M - R)),
    as the relevant ones stand R (R - 1) / 2 times before each other (Hanley and McNeil 1982). Peers differ: implicit
    looks at the first k and takes the rest to be in random order; RecBole's AUC compares the scores of different
    queries, its GAUC weighs queries by their number of relevant candidates.

    Args:
      placed: `Ranks.mean`, no candidate of a query twice; a relevant candidate that is excluded has a rank from M on,
        and stands behind all.
      num_ranked: how many candidates of each query are not excluded, M.

    Returns:
      A value per query; NaN where nothing is relevant or nothing else is left.

    >>> placed = Placed(np.array([0, 2.5]), Lists.from_sequences([[5, 6]]))
    >>> auc(placed, np.array([5]))  # stand before 3 and 1.5 of 3
    array([0.75])
    """
    ranks, owners, num_relevant = placed.ranks, placed.owners, placed.num_relevant
    ranked = ranks < num_ranked[owners]
    num_placed = np.bincount(owners[ranked], minlength=len(num_relevant))
    others = num_ranked - num_placed
    before = np.bincount(owners[ranked], weights=ranks[ranked], minlength=len(num_relevant))
    before = before - num_placed * (num_placed - 1) / 2 + (num_relevant - num_placed) * others
    return 1 - per(before, num_relevant * others)


def interaction_hit_rate_at(placed: Placed, k: int) -> Values:
    """Returns the share of the interactions of each query whose candidate is among the first k.

    NaN where there is none. It is the hit rate of leave-one-out protocols (He et al. 2017), which rank no other
    relevant candidate of the query; here the others stay in the list, and can be in the way. Over all interactions,
    with optimistic ranks, it is `top_k_accuracy`. Without repeats it is the recall, whose mean weighs queries alike.

    >>> interaction_hit_rate_at(Placed(np.array([0, 2, 2, 9]), Lists.from_sequences([[5, 6, 6, 7]])), 3)  # 3 / 4
    array([0.75])
    """
    return per(hits_at(placed, k), placed.num_relevant)


def interaction_reciprocal_rank_at(placed: Placed, k: int) -> Values:
    """Returns the mean, over the interactions of each query, of 1 / (place, from 1 on), 0 behind the first k.

    NaN where there is none. Leave-one-out protocols call its mean MRR (Hidasi et al. 2016); see
    `interaction_hit_rate_at` for how it differs.

    >>> placed = Placed(np.array([0, 3, 9]), Lists.from_sequences([[5, 6], [7]]))
    >>> interaction_reciprocal_rank_at(placed, 4)  # (1 / 1 + 1 / 4) / 2
    array([0.625, 0.   ])
    """
    return per(placed.sums(1 / (placed.by_place + 1.0), k), placed.num_relevant)


def interaction_ndcg_at(placed: Placed, k: int) -> Values:
    """Returns the mean, over the interactions of each query, of 1 / log2(place + 1), from 1 on, 0 behind the first k.

    NaN where there is none. The ideal list of one relevant candidate has a DCG of 1 (He et al. 2017, where it is the
    nDCG of leave-one-out); see `interaction_hit_rate_at` for how it differs.

    >>> interaction_ndcg_at(Placed(np.array([0, 2, 9]), Lists.from_sequences([[5, 6, 7]])), 4)  # (1 + 1 / log2 4) / 3
    array([0.5])
    """
    return per(placed.sums(placed.gains, k), placed.num_relevant)
