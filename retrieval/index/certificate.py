"""`Certificate`: the recall of an index with a lower bound, from queries that did not choose its settings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64

LEVEL = 0.95


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
      lower_bound: of its interval of 95 %.
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
      lower_bound: of the interval of 95 %, corrected for the settings that were tried on the held-out queries.
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
