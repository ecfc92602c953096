"""Whether a graph or exact search answers a query with a filter or exclusions, by what each would cost.

A graph may find the first few of the corpus quickly, and those after them late or never. So how far a graph reaches,
and at which cost, is measured, see `index.tuning.costs`; where it was not, a graph answers filters that leave nearly
everything, and whatever is excluded, and exact search all other filters.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

NEARLY_ALL = 0.9  # of the candidates: what deletions leave
_DEVIATIONS = 3.0


@dataclasses.dataclass(frozen=True)
class Costs:
    """Times of one machine in seconds; the defaults are those of two cores. `index.tuning.costs` measures them.

    Attributes:
      product: of exact search, for each number of a vector and each query of a large batch.
      stream: the same for a single query, which reads every vector from memory.
      gather: for each number of a vector that is copied out of the corpus.
      reaches: of the graph: a depth, the width of a search that finds the candidates up to it with the recall that is
        meant, and its time a query; ascending. None is found deeper than the last. Empty: not measured.
    """

    product: float = 1e-10
    stream: float = 4e-10
    gather: float = 1e-9
    reaches: tuple[tuple[int, int, float], ...] = ()

    def __post_init__(self):
        times = {"product": self.product, "stream": self.stream, "gather": self.gather}
        for name, value in (*times.items(), *(("reaches", seconds) for _, _, seconds in self.reaches)):
            if not isinstance(value, float) or not 0 < value < math.inf:
                raise ValueError(f"costs.{name} must be a time above 0 in seconds, got {value!r}")

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Costs:
        """Returns what `dataclasses.asdict` made the record from.

        Raises:
          ValueError, TypeError, KeyError: the record is no such one.
        """
        return cls(**{**record, "reaches": tuple((int(d), int(w), float(s)) for d, w, s in record["reaches"])})


def depth(k: int, num_allowed: int, num_candidates: int) -> int:
    """Returns how many of the best candidates hold k allowed ones, by and large.

    k lies three standard deviations below what is expected among so many, were the allowed ones spread evenly. Where
    they are not, and the graph finds too few, exact search answers.

    >>> depth(10, 1000, 1000), depth(10, 990, 1000), depth(10, 500, 1000), depth(10, 10, 1000)
    (10, 12, 39, 2490)
    """
    share = num_allowed / num_candidates
    spread = _DEVIATIONS * math.sqrt(1 - share)
    root = (spread + math.sqrt(spread * spread + 4 * k)) / 2  # of x in: x - spread sqrt(x) = k
    return math.ceil(root * root / share - 1e-9)


def width(
    costs: Costs, k: int, ef: int, num_allowed: int, num_candidates: int, surplus: int = 0
) -> tuple[int, float] | None:
    """Returns how many candidates the graph must find so that k of them are left, and the seconds a query.

    None: it does not reach so far. The seconds are 0 where the graph is asked whatever it costs: nearly all are
    allowed, and none is excluded or the reach was not measured.

    Args:
      costs: of the graph.
      k: how many.
      ef: that the graph is searched with.
      num_allowed: candidates that may be found.
      num_candidates: of all.
      surplus: how many of those a query must not get, at most; they may be the very best.
    """
    if not num_allowed:
        return None
    needed = depth(k + surplus, num_allowed, num_candidates)
    if num_allowed >= NEARLY_ALL * num_candidates and not (surplus and costs.reaches):
        return max(math.ceil(ef * num_candidates / num_allowed) + surplus, needed), 0.0
    return reach(costs, needed)


def reach(costs: Costs, needed: int) -> tuple[int, float] | None:
    """Returns how many candidates the graph must find for the first `needed`, and its time; None: it is not known.

    >>> reach(Costs(reaches=((10, 60, 1e-5), (20, 90, 2e-5))), 11)
    (90, 2e-05)
    """
    return next(((max(wide, needed), seconds) for deep, wide, seconds in costs.reaches if deep >= needed), None)


def exact_seconds(costs: Costs, num_queries: int, num_numbers: int, is_gathered: bool) -> float:
    """Returns the time of exact search over a subset with so many numbers in its vectors, for a batch of queries."""
    return num_numbers * (num_queries * costs.product + costs.stream + (0 if is_gathered else costs.gather))
