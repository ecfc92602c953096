"""Popularity of candidates: priors and penalty scales from counts in the training part."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int32, Shaped

SECONDS_A_DAY = 86_400
ABSENCES = 2.0 ** np.arange(9)  # days; returning queries are grouped by the time since their last interaction
UNKNOWN, PRESENT = 0, 1  # groups of queries: not in train, active at its end; larger numbers: returning queries


class RecentPrior(NamedTuple):
    """Difference of the candidates' log-probabilities at the end of train and in all of train.

    For candidate row c and query row q the difference is `mixes[groups[q]] @ shifts[c]`.

    Attributes:
      shifts: C components of each candidate row [N, C].
      mixes: coefficients of the components for each group of queries [G, C].
      groups: group of each query row [M]; rows beyond the array have group 0, unknown queries.
    """

    shifts: Float32[np.ndarray, "N C"]
    mixes: Float32[np.ndarray, "G C"]
    groups: Int32[np.ndarray, "M"]


def penalty_scale(counts: Shaped[np.ndarray, "num_rows"], power: float) -> Float32[np.ndarray, "num_rows"]:
    """Returns each row's factor in frequency-scaled L2, whose sum over the row's examples grows as count ** power.

    The mean factor over the examples is 1. Source: Rendle et al. 2021, "Revisiting the performance of iALS on item
    recommendation benchmarks", section 3.3, where the exponent is called nu.

    >>> penalty_scale(np.array([0, 1, 4]), 0.5).round(3)
    array([1.667, 1.667, 0.833], dtype=float32)
    """
    scale = np.maximum(counts, 1.0) ** (power - 1.0)
    total = float(np.sum(counts))
    return (scale * (total / np.sum(scale * counts) if total else 1.0)).astype(np.float32)


def log_prior(counts: Shaped[np.ndarray, "num_rows"]) -> Float32[np.ndarray, "num_rows"]:
    """Computes the log-probability of each candidate row, minus that of a candidate that is not in train.

    Counts n are smoothed by 1/2, so that the value of an unseen candidate is finite (0): log((n + 1/2) / (1/2)).

    >>> log_prior(np.array([0, 3, 1])).round(2)
    array([0.  , 1.95, 1.1 ], dtype=float32)
    """
    return np.log1p(2 * counts).astype(np.float32)


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
    """Computes the prior at the end of train, where an interaction counts 1/2 ** (age / half_life).

    - Unknown queries: only interactions within a day of their query's first interaction count, because new users choose
      as other users did on their first visit.
    - Known queries: all interactions count. Queries that return after an absence of a day or more have seen older
      candidates and passed them over: `news` times the log of the share of a candidate's n interactions since then,
      (n_since + 1) / (n + 1), is added. The absence is rounded down to one of `ABSENCES`.

    A softmax learns the probability of candidates in all of train. If these probabilities change over time, and the
    preference of queries for candidates does not, Bayes' rule corrects the model by the ratio of the priors. Source:
    Saerens, Latinne and Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities",
    equation 2.4; the term of `news` is not part of it.

    Logs are smoothed as in `log_prior`, and constants of a query are left out: an unseen candidate has 0. O(n) time.

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
      query_rows: query row of each interaction in train.
      candidate_rows: candidate row of each interaction.
      times: time of each interaction in Unix seconds.
      num_query_rows: rows of the queries' vocabulary, the unknown row 0 included.
      num_candidate_rows: rows of the candidates' vocabulary, likewise.
      half_life: age in days at which an interaction counts half.
      news: weight of candidates that are new to returning queries; 0: none.
    """
    # First and last interaction of each query; queries without any keep the extremes.
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
    now = [log_prior(count(weights)) - log_prior(ever) for weights in (decayed * is_first, decayed)]
    new = [news * np.log((count(ages < away) + 1) / (ever + 1)) for away in absences]
    mixes = np.eye(2 + len(absences))
    mixes[PRESENT:, PRESENT] = 1.0  # returning queries read the shift of present ones and that of their absence
    is_known = last > np.iinfo(np.int64).min
    away = (end - np.where(is_known, last, end)) / SECONDS_A_DAY
    groups = np.where(is_known, PRESENT + np.searchsorted(absences, away, side="right"), UNKNOWN)
    groups[0] = UNKNOWN  # row 0 stands for unknown queries, even if some interactions of train have it
    return RecentPrior(
        np.stack([*now, *new], axis=1).astype(np.float32), mixes.astype(np.float32), groups.astype(np.int32)
    )
