"""`Certificate`: the recall of an index with a lower bound, from queries that did not choose its settings."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

ERROR = 0.025  # probability that a bound is above the true recall: an interval of 95 % errs as often on each side
_BETS = (  # fraction of the capital that is bet, and the stake: their share of the first capital, 1 in all
    *((0.995, 0.5), (0.6, 0.1), (0.3, 0.1)),
    *((0.12, 0.1), (0.05, 0.1), (0.02, 0.1)),
)
_BISECTIONS = 50


@dataclasses.dataclass(frozen=True)
class CurvePoint:
    """One setting that `tune` tried: a point of the curve of recall and time.

    Attributes:
      kind: of the searcher, "exact" or "hnsw".
      space: what the graph measures; "" of exact search, as the zeros of the next three.
      M: neighbours of a node.
      ef_construction: candidates considered for them.
      ef: candidates that a search considers.
      num_candidates: of the corpus that was searched, or of a sample of it.
      recall: share of the exact top k that was found, a mean over the queries that choose.
      lower_bound: what as many queries as certify would certify, were their shares distributed as those that choose.
      microseconds: a query, in one batch, on all threads.
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
      target: what the lower bound of recall@k must reach.
      recall: of the index, a mean over the held-out queries; 1 of exact search.
      lower_bound: of the mean recall, wrong with probability 2.5 % at most whatever the distribution of recalls, also
        of the settings together that were tried on the held-out queries; see `lower_bound`.
      num_queries: that were held out, and chose nothing.
      is_reached: whether the bound meets the target.
      reason: why this index, in words.
      chosen: what was chosen.
      curve: all that was tried, in the order of trying.
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
        """Returns the certificate as a mapping that JSON can hold."""
        return dataclasses.asdict(self) | {"curve": [dataclasses.asdict(point) for point in self.curve]}

    @classmethod
    def from_record(cls, record: Mapping[str, Any] | None) -> Certificate | None:
        """Returns the certificate that `to_record` described; None for None.

        Raises:
          TypeError: a field is missing or unknown.
        """
        if record is None:
            return None
        curve = tuple(CurvePoint(**point) for point in record["curve"])
        return cls(**{**record, "chosen": CurvePoint(**record["chosen"]), "curve": curve})


def lower_bound(shares: Float64[np.ndarray, " q"], error: float = ERROR, queries: int | None = None) -> float:
    """Returns a lower bound of the mean of which the shares are a sample, for any distribution on [0, 1] and any q.

    Against each supposed mean m a gambler bets that the shares are larger: a stake w on the fraction c of the capital
    grows by 1 + c (share / m - 1) a share. If the mean is m, the expected capital never exceeds 1, so that by Markov's
    inequality it reaches 1 / error with probability `error` at most. The bound is the largest m at which it does. The
    stakes are those of `_BETS`, half of them on a fraction near 1, which pays where nearly all shares are 1. The order
    of the shares does not matter. Waudby-Smith and Ramdas (2024), "Estimating means of bounded random variables by
    betting", section 4. O(q log q) time.

    >>> round(lower_bound(np.ones(1000)), 4)
    0.9957

    Args:
      shares: of each query, in [0, 1].
      error: probability that the bound is above the mean.
      queries: their number, if the question is what as many as these would show whose shares were distributed as
        `shares`; None: the number of `shares`.
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
    fraction, stake = _BETS[0]  # alone reaches the target with as many as `enough`; with the others, a few less do
    enough = math.ceil(-math.log(error * stake) / math.log1p(fraction * (1 / target - 1)))
    return bisect.bisect_left(range(enough), target, lo=1, key=lambda n: lower_bound(np.ones(1), error, n))
