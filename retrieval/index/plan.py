"""Whether a graph or exact search answers a filtered query: what each would cost, and how far the graph must look."""

from __future__ import annotations

import dataclasses
import math

_SPREAD = 3.0  # standard deviations of the number of allowed candidates among those the graph finds


@dataclasses.dataclass(frozen=True)
class Costs:
    """Times of one machine in seconds; the defaults are those of two cores. `retrieval.index.tuning` measures them.

    Attributes:
      visit: of the graph, for each candidate that a search considers.
      product: of exact search, for each number of a vector and each query of a large batch.
      stream: the same for a single query, which reads every vector from memory.
      gather: for each number of a vector that is copied out of the corpus.
    """

    visit: float = 1e-6
    product: float = 1e-10
    stream: float = 4e-10
    gather: float = 1e-9

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, float) or not 0 < value < math.inf:
                raise ValueError(f"costs.{field.name} must be a time above 0 in seconds, got {value!r}")


def width(k: int, ef: int, num_allowed: int, num_candidates: int) -> int:
    """Returns how many candidates the graph must find so that k of them are allowed, by and large.

    That many allowed ones are expected among them that k lies three standard deviations below, were the allowed ones
    spread evenly; and as the k-th of those is found further out, `ef` grows with the root of how rare they are. Where
    they are not spread evenly, and too few are found, exact search answers.

    >>> width(10, 100, 1000, 1000), width(10, 100, 500, 1000), width(10, 100, 10, 1000)
    (100, 142, 2249)
    """
    rare = num_candidates / max(num_allowed, 1)
    expected = k + _SPREAD * math.sqrt(k) + _SPREAD
    return max(math.ceil(ef * math.sqrt(rare)), math.ceil(expected * rare) if rare > 1 else k)


def exact_is_cheaper(costs: Costs, num_queries: int, num_numbers: int, looked_at: int, is_gathered: bool) -> bool:
    """Tells whether exact search over a subset costs less than the graph.

    Args:
      costs: of the machine.
      num_queries: of the batch.
      num_numbers: of all vectors in the subset.
      looked_at: candidates that a search of the graph would consider.
      is_gathered: whether the vectors of the subset lie one after the other already.
    """
    exact = num_queries * costs.product + costs.stream + (0 if is_gathered else costs.gather)
    return exact * num_numbers <= num_queries * looked_at * costs.visit
