"""`Certificate`: the recall of an index with a lower bound, from queries that did not choose its settings."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

ERROR = 0.025  # probability that a bound exceeds the true recall; a 95 % interval errs as often on each side
_BETS = (  # (fraction of its capital that a bet risks, its share of the initial capital); the shares sum to 1
    *((0.995, 0.5), (0.6, 0.1), (0.3, 0.1)),
    *((0.12, 0.1), (0.05, 0.1), (0.02, 0.1)),
)
_BISECTIONS = 50


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """One setting that `tune` tried: a point of the curve of recall and time.

    Attributes:
      kind: of the searcher, "exact" or "hnsw".
      space: distance of the graph; "" for exact search, whose M, ef_construction and ef are 0.
      M: most neighbours of a node.
      ef_construction: number of candidates considered as neighbours of a new node.
      ef: number of candidates that a search considers.
      num_candidates: size of the corpus or of the sample of it that was searched.
      recall: share of the exact top k that was found, a mean over the choosing queries.
      lower_bound: the bound that the held-out queries would certify if their recalls were distributed as those of the
        choosing queries.
      microseconds: time a query, of one batch on all threads.
    """

    kind: str
    space: str
    M: int
    ef_construction: int
    ef: int
    num_candidates: int
    recall: float
    lower_bound: float
    microseconds: float


@dataclasses.dataclass(frozen=True)
class Certificate:
    """The recall of an index, and why `tune` chose it.

    Attributes:
      k: length of the lists.
      target: recall@k that the lower bound must reach.
      recall: mean recall@k of the index over the held-out queries; 1 for exact search.
      lower_bound: lower bound of the mean recall, see `lower_bound`. It errs with probability 2.5 % at most, for any
        distribution of recalls, and over all settings together that were tried on the held-out queries.
      num_queries: number of held-out queries, which had no part in the choice; 0 for exact search.
      is_reached: whether the bound meets the target.
      reason: one sentence on why this index was chosen.
      chosen: the point of this index.
      curve: all points, in the order in which they were tried.
    """

    k: int
    target: float
    recall: float
    lower_bound: float
    num_queries: int
    is_reached: bool
    reason: str
    chosen: CurvePoint
    curve: tuple[CurvePoint, ...]

    def to_record(self) -> dict[str, Any]:
        """Converts the certificate to a mapping that JSON can hold."""
        return dataclasses.asdict(self) | {"curve": [dataclasses.asdict(point) for point in self.curve]}

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> Certificate | None:
        """Makes the certificate from the record of `to_record`; None for None.

        Raises:
          TypeError: a field is missing or unknown.
        """
        if record is None:
            return None
        curve = tuple(CurvePoint(**point) for point in record["curve"])
        return cls(**{**record, "chosen": CurvePoint(**record["chosen"]), "curve": curve})


def lower_bound(shares: Float64[np.ndarray, " q"], error: float = ERROR, queries: int | None = None) -> float:
    """Computes a lower bound of the mean of the distribution of the shares, for any distribution on [0, 1] and any q.

    To test whether the mean is m, a gambler bets that the shares exceed m: a bet that risks the fraction c of its
    capital multiplies it by 1 + c (share / m - 1) for each share. If the mean is m, the expected capital stays 1, so by
    Markov's inequality it reaches 1 / error with probability `error` at most. The bound is the largest m at which it
    does. The initial capital of 1 is divided among the bets of `_BETS`; half of it risks a fraction near 1, which pays
    where nearly all shares are 1. The order of the shares does not matter. Source: Waudby-Smith and Ramdas (2024),
    "Estimating means of bounded random variables by betting", section 4. O(q log q) time.

    >>> round(lower_bound(np.ones(1000)), 4)
    0.9957

    Args:
      shares: of each query, in [0, 1].
      error: probability that the bound exceeds the mean.
      queries: computes the bound that this number of queries would give if their shares were distributed as `shares`;
        None: the number of `shares`.
    """
    values, counts = np.unique(shares, return_counts=True)
    counts = counts * ((len(shares) if queries is None else queries) / len(shares))
    fractions, stakes = np.array(_BETS).T

    def log_capital(m: float) -> float:
        growths = np.log1p(fractions[:, None] * (values / m - 1)) @ counts
        return float(np.logaddexp.reduce(growths + np.log(stakes)))

    low, high = 0.0, float(values @ counts / counts.sum())  # at the mean of the shares the capital is below 1
    for _ in range(_BISECTIONS):  # the capital falls in m
        m = (low + high) / 2
        low, high = (m, high) if m > 0 and log_capital(m) >= -math.log(error) else (low, m)
    return low


def least_queries(target: float, error: float = ERROR) -> int:
    """Returns the least number of queries that certify the target if the recall of each is 1.

    >>> least_queries(0.99)
    433
    """
    fraction, stake = _BETS[0]  # alone, this bet needs `enough` queries; with the other bets, a few less do
    enough = math.ceil(-math.log(error * stake) / math.log1p(fraction * (1 / target - 1)))
    return bisect.bisect_left(range(enough), target, lo=1, key=lambda n: lower_bound(np.ones(1), error, n))
