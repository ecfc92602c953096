"""`Choices`: the kinds of index, spaces, graphs and values of ef that `tune` may choose from."""

from __future__ import annotations

import dataclasses
import math

from retrieval.common.choices import check_choice
from retrieval.index.exact.exact_index import ExactIndex
from retrieval.index.hnsw.hnsw_index import LIMITS, HnswIndex
from retrieval.index.hnsw.spaces import SPACES

GRAPHS = ((16, 100), (32, 200))  # M and ef_construction, the cheaper first
MOST_EF = 4096
STEPS = 2  # values of ef per doubling


@dataclasses.dataclass(frozen=True)
class Choices:
    """Restricts what `tune` chooses; "" and 0 leave a field free.

    Attributes:
      kind: "exact" or "hnsw"; "": the cheaper one.
      space: distance of the graph, one of `retrieval.index.hnsw.spaces`.
      M: most neighbours of a node.
      ef_construction: number of candidates considered as neighbours of a new node.
      ef: number of candidates that a search considers; recall is then measured at this ef alone.

    Raises:
      ValueError: a field is none of its choices, or out of range.
    """

    kind: str = ""
    space: str = ""
    M: int = 0
    ef_construction: int = 0
    ef: int = 0

    def __post_init__(self):
        check_choice("kind", self.kind, ["", ExactIndex.kind, HnswIndex.kind])
        check_choice("space", self.space, ["", *SPACES])
        for name in ("M", "ef_construction", "ef"):
            value, (low, high) = getattr(self, name), LIMITS[name]
            if type(value) is not int or not (value == 0 or low <= value <= high):
                raise ValueError(f"{name} must be an integer in [{low}, {high}], or 0 for any, got {value!r}")

    def graphs(self) -> list[tuple[str, int, int]]:
        """Returns space, M and ef_construction of the graphs to try, the cheapest of a space first."""
        spaces = [self.space] if self.space else list(SPACES)
        pairs = [(self.M or M, self.ef_construction or ef_construction) for M, ef_construction in GRAPHS]
        return [(space, *pair) for space in spaces for pair in dict.fromkeys(pairs)]

    def widths(self, k: int, num_candidates: int) -> list[int]:
        """Returns the values of ef to try, ascending from k in geometric steps."""
        if self.ef:
            return [self.ef]
        largest = max(k, min(MOST_EF, num_candidates // 2))
        count = math.ceil(STEPS * math.log2(largest / k))
        return sorted({min(largest, round(k * 2 ** (i / STEPS))) for i in range(count + 1)})
