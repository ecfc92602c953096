"""Probabilities of candidates, from their counts in the training part."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int, Int32, Shaped

SECONDS_A_DAY = 86_400


def log_prior(counts: Shaped[np.ndarray, "num_rows"]) -> Float32[np.ndarray, "num_rows"]:
    """Returns the log of each candidate row's probability, over that of a candidate never seen in train.

    Counts are smoothed by 1/2, so that the log of an unseen candidate is finite, and 0: log((n + 1/2) / (1/2)).

    >>> log_prior(np.array([0, 3, 1])).round(2)
    array([0.  , 1.95, 1.1 ], dtype=float32)
    """
    return np.log1p(2 * counts).astype(np.float32)


def prior_shift(
    query_rows: Int32[np.ndarray, "n"],
    candidate_rows: Int32[np.ndarray, "n"],
    times: Int[np.ndarray, "n"],
    num_rows: int,
    *,
    half_life: float,
) -> Float32[np.ndarray, "num_rows 2"]:
    """Returns how far the log-probability of each candidate row at the end of train lies above that in all of train.

    An interaction counts 1/2 ** (its age / half_life) at the end. Column 0 is for queries that train does not know:
    only what queries did within a day of their first interaction counts. Column 1 is for those that it knows. Constants
    of a column are left out, as in `log_prior`: a candidate never seen has 0. O(n log n) time.

    >>> days = np.array([0, 10, 20, 20]) * SECONDS_A_DAY
    >>> queries, candidates = np.array([1, 2, 1, 3], np.int32), np.array([1, 2, 2, 3], np.int32)
    >>> prior_shift(queries, candidates, days, num_rows=5, half_life=10.0).round(2)
    array([[ 0.  ,  0.  ],
           [-0.69, -0.69],
           [-0.92, -0.22],
           [ 0.  ,  0.  ],
           [ 0.  ,  0.  ]], dtype=float32)

    Args:
      query_rows: of the interactions in train.
      candidate_rows: likewise.
      times: likewise, in Unix seconds.
      num_rows: rows of the candidates' vocabulary, the unknown one included.
      half_life: in days.
    """
    counts = np.bincount(candidate_rows, minlength=num_rows)
    first = np.full(query_rows.max(initial=0) + 1, np.iinfo(np.int64).max)
    np.minimum.at(first, query_rows, times)
    weights = 0.5 ** ((times.max(initial=0) - times) / (half_life * SECONDS_A_DAY))
    is_first = times - first[query_rows] <= SECONDS_A_DAY
    now = [np.bincount(candidate_rows, of, minlength=num_rows) for of in (weights * is_first, weights)]
    return np.stack([log_prior(of) for of in now], axis=1) - log_prior(counts)[:, None]
