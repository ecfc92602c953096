"""Probabilities of candidates, from their counts in the training part."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int32, Shaped

SECONDS_A_DAY = 86_400
ABSENCES = 2.0 ** np.arange(9)  # days: queries that come back are told apart by how many of these they have been away
UNKNOWN, PRESENT = 0, 1  # groups of queries: not in train, and in it; behind these, those that come back


class RecentPrior(NamedTuple):
    """How far the log-probability of candidates at the end of train lies above that in all of train.

    That of candidate row c for query row q is `mixes[groups[q]] @ shifts[c]`.

    Attributes:
      shifts: of each candidate row [N, C].
      mixes: which of them a group of queries reads [G, C].
      groups: group of each query row [M]; a row behind them is of group 0, unknown.
    """

    shifts: Float32[np.ndarray, "N C"]
    mixes: Float32[np.ndarray, "G C"]
    groups: Int32[np.ndarray, "M"]


def penalty_scale(counts: Shaped[np.ndarray, "num_rows"], power: float) -> Float32[np.ndarray, "num_rows"]:
    """Returns what to multiply a penalty by that each example adds, for a row's sum of them to grow as count ** power.

    The mean over the examples stays 1. Source: Rendle et al. 2021, "Revisiting the performance of iALS on item
    recommendation benchmarks", section 3.3, where the exponent is called nu.

    >>> penalty_scale(np.array([0, 1, 4]), 0.5).round(3)
    array([1.667, 1.667, 0.833], dtype=float32)
    """
    scale = np.maximum(counts, 1.0) ** (power - 1.0)
    total = float(np.sum(counts))
    return (scale * (total / np.sum(scale * counts) if total else 1.0)).astype(np.float32)


def log_prior(counts: Shaped[np.ndarray, "num_rows"]) -> Float32[np.ndarray, "num_rows"]:
    """Returns the log of each candidate row's probability, over that of a candidate never seen in train.

    Counts are smoothed by 1/2, so that the log of an unseen candidate is finite, and 0: log((n + 1/2) / (1/2)).

    >>> log_prior(np.array([0, 3, 1])).round(2)
    array([0.  , 1.95, 1.1 ], dtype=float32)
    """
    return np.log1p(2 * counts).astype(np.float32)


def entropy(counts: Shaped[np.ndarray, "num_rows"]) -> float:
    """Returns the entropy of the candidates' shares of train, in nats; 0 without any.

    It is the least cross-entropy that a ranking can have which is the same for every query.

    >>> round(entropy(np.array([0, 2, 2])), 4)
    0.6931
    """
    positive = counts[counts > 0].astype(np.float64)
    shares = positive / positive.sum()
    return float(-np.sum(shares * np.log(shares)))


def recent_prior(
    query_rows: Int32[np.ndarray, "n"],
    candidate_rows: Int32[np.ndarray, "n"],
    times: Int[np.ndarray, "n"],
    *,
    num_query_rows: int,
    num_candidate_rows: int,
    half_life: float,
    news: float = 0.0,
) -> RecentPrior:
    """Returns the prior at the end of train, where an interaction counts 1/2 ** (its age / half_life).

    - For queries that train does not know, only what queries did within a day of their first interaction counts.
    - For the others all counts. Those that have been away for a day or more passed over what was there before: `news`
      times the log of the share of a candidate's n interactions that came since, (n_since + 1) / (n + 1), is added. It
      is taken at the nearest of `ABSENCES` below.

    A softmax learns the probability of candidates as it was in all of train. Where that changes, and what draws a query
    to a candidate does not, Bayes' rule gives today's: times the ratio of the priors. Source: Saerens, Latinne and
    Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities", equation 2.4; the news are
    not in it.

    Logs are smoothed as in `log_prior`, and constants of a query left out: a candidate never seen has 0. O(n) time.

    >>> days = np.array([0, 10, 20, 20]) * SECONDS_A_DAY
    >>> rows = np.array([1, 2, 1, 3], np.int32), np.array([1, 2, 2, 3], np.int32)
    >>> prior = recent_prior(*rows, days, num_query_rows=4, num_candidate_rows=4, half_life=10.0)
    >>> prior.shifts.round(2)
    array([[ 0.  ,  0.  ],
           [-0.69, -0.69],
           [-0.92, -0.22],
           [ 0.  ,  0.  ]], dtype=float32)
    >>> prior.mixes[prior.groups]
    array([[1., 0.],
           [0., 1.],
           [0., 1.],
           [0., 1.]], dtype=float32)

    Args:
      query_rows: of the interactions in train.
      candidate_rows: likewise.
      times: likewise, in Unix seconds.
      num_query_rows: rows of the queries' vocabulary, the unknown row 0 included.
      num_candidate_rows: likewise of the candidates'.
      half_life: in days.
      news: weight of what is new to those who come back; 0: none.
    """
    first = np.full(num_query_rows, np.iinfo(np.int64).max)
    last = np.full(num_query_rows, np.iinfo(np.int64).min)
    np.minimum.at(first, query_rows, times)
    np.maximum.at(last, query_rows, times)
    end = times.max(initial=0)
    ages = (end - times) / SECONDS_A_DAY
    is_first = times - first[query_rows] <= SECONDS_A_DAY
    absences = ABSENCES if news else ABSENCES[:0]

    def count(weights):
        return np.bincount(candidate_rows, weights, minlength=num_candidate_rows)

    ever, decayed = count(None), 0.5 ** (ages / half_life)
    now = [log_prior(count(of)) - log_prior(ever) for of in (decayed * is_first, decayed)]
    new = [news * np.log((count(ages < away) + 1) / (ever + 1)) for away in absences]
    mixes = np.eye(2 + len(absences))
    mixes[PRESENT:, PRESENT] = 1.0
    is_known = last > np.iinfo(np.int64).min
    away = (end - np.where(is_known, last, end)) / SECONDS_A_DAY
    groups = np.where(is_known, PRESENT + np.searchsorted(absences, away, side="right"), UNKNOWN)
    groups[0] = UNKNOWN
    return RecentPrior(
        np.stack([*now, *new], axis=1).astype(np.float32), mixes.astype(np.float32), groups.astype(np.int32)
    )
