"""Metrics of the lists that queries get, whatever is relevant to them; pure NumPy.

Lists are positions in the corpus, int32 [Q, K], the best first, no candidate twice in one, with -1 at the end of those
that are shorter; metrics at k look at the first k. They return one value per query, whose mean is the metric.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int, Int32, Int64, Shaped

from retrieval.common.lists import Lists
from retrieval.evaluation.ranking_metrics import per

Positions = Int32[np.ndarray, "Q K"]
Values = Float64[np.ndarray, "Q"]
BLOCK = 2**17  # numbers of vectors gathered at once: they stay in the cache


def coverage_at(positions: Positions, num_candidates: int, k: int) -> Values:
    """Returns influence values of the catalogue coverage: the share of the corpus in the first k of at least one list.

    The coverage (Ge et al. 2010) is no mean over queries. The jackknife's value of query q,

        v_q = theta + (Q - 1) * (mean_j theta_(-j) - theta_(-q)),    theta_(-q): the coverage without the list of q,

    has the mean theta, the coverage (Efron 1982), but its spread is too wide, up to 1.7 times: a candidate that two
    lists have is lost without both alone, which the jackknife takes to be impossible. So values are drawn to their mean
    until their spread is that of `_coverage_variance`: resampled and averaged like other metrics they give the
    interval. NaN but for one, theta, where no spread can be estimated. Takes O(Q k + N log N) time. Point estimates
    are those of RecBole's itemcoverage and RecTools' CatalogCoverage.

    >>> values = coverage_at(np.array([[0, 1], [0, 2], [0, -1]], np.int32), 4, 2)
    >>> values.round(4), values.mean()  # without a list 2 / 4, 2 / 4 and 3 / 4
    (array([0.9167, 0.9167, 0.4167]), np.float64(0.75))
    """
    lists, counts = _counted(positions, num_candidates, k)
    num_unique = (np.append(counts, 0)[lists] == 1).sum(axis=1)  # candidates that no other list has
    covered = np.count_nonzero(counts)
    influence = _influence(covered / num_candidates, (covered - num_unique) / num_candidates)
    jackknife = np.sum((num_unique - num_unique.mean()) ** 2) if len(num_unique) else 0.0
    if jackknife == 0:  # as where all lists are the same: values of no spread
        return influence
    variance = _coverage_variance(lists, counts, jackknife)
    if variance <= 0:
        return np.where(np.arange(len(lists)) == 0, covered / num_candidates, np.nan)
    return influence.mean() + (influence - influence.mean()) * np.sqrt(variance / jackknife)


def gini_at(positions: Positions, num_candidates: int, k: int) -> Values:
    """Returns influence values of the Gini index of how often the candidates of the corpus are in the first k.

    With counts c ascending, of N candidates, and T their sum: G = sum_i (2 i - N - 1) c_i / (N T), i from 1 on: 0 where
    all are recommended alike, or nothing is, (N - 1) / N where all lists have the same one (Gini 1912; Fleder and
    Hosanagar 2009). Values are the jackknife's, see `coverage_at`, with G as theta, exact for each query left out;
    their spread is up to 1.25 times too wide. Takes O(Q k log Q k + N log N) time. So does RecBole's giniindex; others
    divide by (N - 1) / N, to reach 1.

    >>> values = gini_at(np.array([[0, 1], [0, -1]], np.int32), 4, 2)
    >>> values.round(4), values.mean().round(4)  # counts 0 0 1 2: 7 / 12; without one 0 0 0 1: 3 / 4; 0 0 1 1: 1 / 2
    (array([0.4583, 0.7083]), np.float64(0.5833))
    """
    lists, counts = _counted(positions, num_candidates, k)
    lengths, rows = np.sum(lists >= 0, axis=1), lists[lists >= 0]
    owners = np.repeat(np.arange(len(lists)), lengths)
    ascending = np.sort(counts)
    spread = np.sum((2 * np.arange(num_candidates) + 1 - num_candidates) * ascending)  # sum of |c_i - c_j|, i < j
    # Without a list the counts of what it has fall by one: nearer to lower ones, away from the others. That is too much
    # for others of the list, which fall as well: by one for each of equal count, itself too, as the rest cancels out.
    lower = np.searchsorted(ascending, counts)
    change = np.bincount(owners, weights=np.take(num_candidates - 2 * lower, rows), minlength=len(lists))
    change = change - _squared_repeats(owners, np.take(counts, rows), len(lists))
    without = (spread + change) / (num_candidates * np.maximum(len(rows) - lengths, 1))
    return _influence(spread / (num_candidates * max(len(rows), 1)), without)


def novelty_at(positions: Positions, num_having: Int[np.ndarray, "N"], num_train_queries: int, k: int) -> Values:
    """Returns the mean self-information, in bits, of the first k of each list; NaN for an empty list.

    It is -log2 of the share of the train queries that have a candidate (Zhou et al. 2010). One that is unknown in
    train counts as if one query had it, the most novel that a known one can be: so does RecTools' MeanInvUserFreq.

    Args:
      positions: the lists.
      num_having: how many queries have each candidate in train.
      num_train_queries: how many queries are in train.
      k: the length of the lists.

    >>> novelty_at(np.array([[0, 1, 2], [2, -1, -1]], np.int32), np.array([4, 1, 0]), 8, 3)  # 1, 3 and 3 bits
    array([2.33333333, 3.        ])
    """
    return _mean_of(np.log2(num_train_queries / np.maximum(num_having, 1)), _first(positions, k))


def average_popularity_at(positions: Positions, popularity: Shaped[np.ndarray, "N"], k: int) -> Values:
    """Returns the mean popularity of the first k of each list, the ARP (Yin et al. 2012); NaN for an empty list.

    `popularity` is how many queries have each candidate in train; RecBole's averagepopularity counts likewise.

    >>> average_popularity_at(np.array([[0, 1], [2, -1]], np.int32), np.array([4, 1, 0]), 2)
    array([2.5, 0. ])
    """
    return _mean_of(popularity.astype(np.float64), _first(positions, k))


def popularity_lift_at(positions: Positions, popularity: Shaped[np.ndarray, "N"], history: Lists, k: int) -> Values:
    """Returns how much more popular the first k of each list are than what the query has in train.

    It is (p - h) / h with the mean popularity p of the list, h of the history: 0 for lists as popular as the history,
    1 for twice as popular. NaN without history, or for an empty list. Abdollahpouri et al. 2019 take p and h as means
    over a group of queries; here each query has its own, and a group the mean of its queries' lifts.

    Args:
      positions: the lists.
      popularity: how many queries have each candidate in train.
      history: positions of the candidates that each query has in train.
      k: the length of the lists.

    >>> history = Lists.from_sequences([[0, 1], [0], []])
    >>> popularity_lift_at(np.array([[0], [1], [0]], np.int32), np.array([4, 1]), history, 1)  # 4 to 2.5; 1 to 4
    array([ 0.6 , -0.75,   nan])
    """
    sums = np.bincount(history.owners, weights=popularity[history.rows], minlength=len(history))
    before = per(sums, history.lengths)
    return per(average_popularity_at(positions, popularity, k) - before, before)


def diversity_at(positions: Positions, vectors: Float[np.ndarray, "N D"], k: int) -> Values:
    """Returns the mean, over the pairs of the first k of each list, of 1 - their cosine similarity.

    NaN where a list has less than two. It is the intra-list diversity (Ziegler et al. 2005, who take the similarity).
    With `vectors` of unit length the pairs of m candidates sum up to (|their sum|^2 - m) / 2: takes O(Q k D) time.

    Args:
      positions: the lists.
      vectors: what tells candidates apart: embeddings, or a 1 for each genre of a candidate. One that is zero is
        similar to nothing.
      k: the length of the lists.

    >>> genres = np.array([[1, 0], [1, 1], [0, 1]], np.float64)
    >>> diversity_at(np.array([[0, 1, 2], [0, 2, -1]], np.int32), genres, 3).round(4)  # cosines 0.7071, 0, 0.7071
    array([0.5286, 1.    ])
    """
    lists = _first(positions, k)
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    units = np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths > 0)
    units = np.concatenate([units, np.zeros((1, units.shape[1]))])  # position -1
    size = max(1, BLOCK // max(1, k * units.shape[1]))
    ones = np.ones(k)  # a matrix product sums up faster than `sum`
    sums = [ones @ np.take(units, lists[start : start + size], axis=0) for start in range(0, len(lists), size)]
    squares = np.concatenate([np.einsum("qd,qd->q", block, block) for block in sums] or [np.zeros(0)])
    self_products = np.append(lengths[:, 0] > 0, False)[lists].sum(axis=1)
    num_listed = np.sum(lists >= 0, axis=1)
    return 1 - per(squares - self_products, num_listed * (num_listed - 1))


def _first(positions: Positions, k: int) -> Int32[np.ndarray, "Q k"]:
    if not 1 <= k <= positions.shape[1]:
        raise ValueError(f"k must be in [1, {positions.shape[1]}], the length of the lists, got {k}")
    return positions[:, :k]


def _counted(positions, num_candidates, k) -> tuple[Int32[np.ndarray, "Q k"], Int64[np.ndarray, "N"]]:
    """Returns the first k of each list, and in how many of them each candidate is."""
    lists = _first(positions, k)
    return lists, np.bincount(lists[lists >= 0], minlength=num_candidates)


def _coverage_variance(lists: Int32[np.ndarray, "Q k"], counts: Int64[np.ndarray, "N"], jackknife: float) -> float:
    """Returns the variance of the number of covered candidates over other samples of as many queries.

    The jackknife is the first term of an alternating series over sets S of queries (Efron and Stein 1981, "The
    Jackknife Estimate of Variance"). The difference of order |S| is the number m_S of candidates that exactly the lists
    of S have, so that

        variance = jackknife - sum over |S| = 2 of m_S^2 + sum over |S| = 3 of m_S^2 - ...

    For lists of one candidate it is the series of Good and Toulmin 1956 for the species new to a second sample.

    Args:
      lists: the lists, -1 where shorter.
      counts: in how many lists each candidate is.
      jackknife: the first term.
    """
    # Candidates with the same lists have the same sum of random numbers of 64 bits, one of each list.
    numbers = np.random.default_rng(0).integers(0, 2**64, len(lists), np.uint64)
    sums = np.zeros(len(counts), np.uint64)
    np.add.at(sums, lists[lists >= 0], np.repeat(numbers, np.sum(lists >= 0, axis=1)))
    several = counts >= 2
    _, first, sizes = np.unique(sums[several], return_index=True, return_counts=True)
    signs = np.where(counts[several][first] % 2 == 0, -1.0, 1.0)
    return float(min(jackknife + np.sum(signs * sizes.astype(np.float64) ** 2), jackknife))  # the jackknife is a bound


def _influence(theta, without) -> Values:
    """Returns the jackknife's influence values from the figure, and the figure without each query [Q]."""
    return theta + (len(without) - 1) * (without.sum() / max(len(without), 1) - without)


def _squared_repeats(owners, values, num_lists):
    """Returns, for each owner, the sum over its distinct values of the square of how often it has them."""
    keys = np.sort(owners * (values.max(initial=0) + 1) + values)
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    repeats = np.diff(first, append=len(keys))
    return np.bincount(owners[first], weights=repeats**2.0, minlength=num_lists)


def _mean_of(values: Float64[np.ndarray, "N"], lists: Int32[np.ndarray, "Q k"]) -> Values:
    """Returns the mean of the values of the candidates in each list, NaN for an empty one."""
    return per(np.append(values, 0.0)[lists].sum(axis=1), np.sum(lists >= 0, axis=1))
