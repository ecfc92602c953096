"""Decides by cost whether a graph or exact search answers a query with a filter or exclusions.

A graph may find the very best candidates quickly, and those after them late or never. So the depth that a graph reaches
and its cost are measured, see `index.tuning.costs`. Without that measurement, the graph answers filters that leave
nearly all candidates, with any exclusions, and exact search answers all other filters.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

NEARLY_ALL = 0.9  # share of the candidates, as is left after deletions
_DEVIATIONS = 3.0  # standard deviations of the number of allowed candidates among the best


@dataclasses.dataclass(frozen=True)
class Costs:
    """Times of one machine in seconds; the defaults are those of two cores. `index.tuning.costs` measures them.

    Attributes:
      product: time of exact search per element of a vector and query, in a large batch.
      stream: time of exact search per element of a vector for a single query, which reads all vectors from memory.
      gather: time per element of a vector to copy it out of the corpus.
      reaches: of the graph, ascending: a depth, the width of a search that finds the candidates up to this depth with
        the target recall, and its time a query. Beyond the last depth the graph does not reach. Empty: not measured.

    Raises:
      ValueError: a time is not above 0.
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
        """Makes the costs from the record of `dataclasses.asdict`.

        Raises:
          ValueError, TypeError, KeyError: the record has other fields or values.
        """
        reaches = ((int(depth), int(width), float(seconds)) for depth, width, seconds in record["reaches"])
        return cls(**{**record, "reaches": tuple(reaches)})


def depth(k: int, num_allowed: int, num_candidates: int) -> int:
    """Returns how many of the best candidates contain k allowed ones, nearly always.

    It is the number x of which the expected number of allowed candidates is three standard deviations above k, if the
    allowed ones are spread evenly. Where they are not and the graph finds fewer than k, exact search answers.

    >>> depth(10, 1000, 1000), depth(10, 990, 1000), depth(10, 500, 1000), depth(10, 10, 1000)
    (10, 12, 39, 2490)
    """
    share = num_allowed / num_candidates
    # The number of allowed ones among x is about binomial: mean m = share x, standard deviation sqrt(m (1 - share)).
    # m - 3 sqrt(m (1 - share)) = k is quadratic in sqrt(m).
    spread = _DEVIATIONS * math.sqrt(1 - share)
    root = (spread + math.sqrt(spread * spread + 4 * k)) / 2
    return math.ceil(root * root / share - 1e-9)  # a whole number that was rounded up stays whole


def width(
    costs: Costs, k: int, ef: int, num_allowed: int, num_candidates: int, surplus: int = 0
) -> tuple[int, float] | None:
    """Returns the number of candidates that the graph must find so that k are left, and the seconds a query.

    None: the graph does not reach so many. The seconds are 0 where the graph is searched at any cost: nearly all
    candidates are allowed, and none is excluded or the reach was not measured.

    Args:
      costs: of the graph.
      k: number of candidates that must be left.
      ef: number of candidates that a search without filter considers.
      num_allowed: number of candidates that the filter allows.
      num_candidates: size of the corpus.
      surplus: upper bound of the number of exclusions of a query; they may be the very best candidates.
    """
    if not num_allowed:
        return None
    needed = depth(k + surplus, num_allowed, num_candidates)
    if num_allowed >= NEARLY_ALL * num_candidates and not (surplus and costs.reaches):
        # as many allowed candidates are considered as a search without filter considers
        return max(math.ceil(ef * num_candidates / num_allowed) + surplus, needed), 0.0
    return reach(costs, needed)


def reach(costs: Costs, needed: int) -> tuple[int, float] | None:
    """Returns width and seconds a query of a search that finds the best `needed` candidates; None: not measured.

    >>> reach(Costs(reaches=((10, 60, 1e-5), (20, 90, 2e-5))), 11)
    (90, 2e-05)
    """
    return next(((max(width, needed), seconds) for depth, width, seconds in costs.reaches if depth >= needed), None)


def exact_seconds(costs: Costs, num_queries: int, num_numbers: int, is_gathered: bool) -> float:
    """Estimates the seconds of exact search of a batch over a subset, whose vectors have `num_numbers` elements."""
    return num_numbers * (num_queries * costs.product + costs.stream + (0 if is_gathered else costs.gather))
