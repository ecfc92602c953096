"""What searches a corpus: the interface that the engines share, and that an external one can implement."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int32
from numpy.typing import ArrayLike

from retrieval.index.arguments import Exclusions, Subset


@runtime_checkable
class Searcher(Protocol):
    """A search over fixed candidates, which any number of threads may use at the same time.

    Positions are those of the matrix that it was built from. `ExactIndex` and `HnswIndex` are searchers, each with a
    `build` of its own settings; `retrieval.LiveIndex` adds ids, filters and changes to any.

    Attributes:
      embeddings: float32 [n, d], read-only.
      figures: measurements that are saved with it.
    """

    embeddings: Float32[np.ndarray, "n d"]
    figures: Mapping[str, Any]

    def __len__(self) -> int:
        """Returns the number of candidates."""

    def search(
        self,
        queries: ArrayLike,
        k: int,
        excluded: Exclusions | None = None,
        allowed: Subset | np.ndarray | None = None,
    ) -> tuple[Float32[np.ndarray, "q k"], Int32[np.ndarray, "q k"]]:
        """Finds the k candidates with the largest inner products, or about those.

        Args:
          queries: [q, d], converted to float32.
          k: at least 1; may exceed n.
          excluded: the positions that each query must not get, any number in any order.
          allowed: the only positions to choose from, for all queries: booleans [n], or a `Subset` of them, which keeps
            what it has gathered for the next search. None: all.

        Returns:
          Inner products and positions, best first, the lower position first where scores tie. Where no candidate is
          left the position is -1 and the score -inf; there is none left out that could stand there.

        Raises:
          ValueError: an argument does not fit.
        """

    def rebuilt(self, embeddings: ArrayLike) -> Searcher:
        """Returns a searcher with the same settings over other vectors, without figures.

        Raises:
          ValueError: the vectors are refused, as by `build`.
        """

    def save(self, folder: str | os.PathLike[str], figures: Mapping[str, Any] | None = None) -> None:
        """Writes it into `folder`, with `figures` (None: its own), in place of an index that is there.

        The new index is there whole, or the old one is.

        Raises:
          ValueError: a figure is not finite.
          OSError: the folder cannot be written.
        """

    def parts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Returns what its file holds: a record with its "kind", and arrays by name."""
