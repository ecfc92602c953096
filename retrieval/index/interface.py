"""Interfaces of indexes: `Searcher` over fixed candidates by position, and `IdIndex` by raw id, for any engine."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int32, Shaped
from numpy.typing import ArrayLike

from retrieval.index.certificate import Certificate
from retrieval.index.checks import Exclusions
from retrieval.index.filters import Filter
from retrieval.index.subset import Subset


@runtime_checkable
class Searcher(Protocol):
    """Searches fixed candidates; any number of threads may search at the same time.

    Positions are rows of the matrix that the searcher was built from. `ExactIndex` and `HnswIndex` are searchers, each
    with a `build` that takes its settings; `retrieval.LiveIndex` adds ids, filters and changes to any searcher.

    Attributes:
      embeddings: float32 [n, d], read-only.
      metrics: numbers that are saved with the index.
      certificate: of the choice that `tune` made; None if the index was built without `tune`.
    """

    embeddings: Float32[np.ndarray, "n d"]
    metrics: Mapping[str, float]
    certificate: Certificate | None

    def __len__(self) -> int:
        """Returns the number of candidates."""

    def search(
        self,
        queries: ArrayLike,
        k: int,
        excluded: Exclusions | None = None,
        allowed: Subset | np.ndarray | None = None,
    ) -> tuple[Float32[np.ndarray, "q k"], Int32[np.ndarray, "q k"]]:
        """Finds the k candidates with the largest inner products; approximately, if the engine is a graph.

        Args:
          queries: [q, d], converted to float32.
          k: at least 1; may exceed n.
          excluded: the positions that each query must not get, any number in any order.
          allowed: the only positions to choose from, for all queries: booleans [n], or a `Subset`, which keeps copies
            of its vectors for the next search. None: all.

        Returns:
          Inner products and positions, best first; of tied scores the lower position first. If fewer than k candidates
          are allowed, the lists are padded with position -1 and score -inf; otherwise all k are filled. A zero query,
          as of a user or an item without data, gets padding only: it scores 0 with each candidate.

        Raises:
          ValueError: an argument does not fit.
        """

    def rebuilt(self, embeddings: ArrayLike) -> Searcher:
        """Builds a searcher with the same settings over other vectors, without metrics.

        Raises:
          ValueError: as `build` for these vectors.
        """

    def save(self, folder: str | os.PathLike[str], metrics: Mapping[str, float] | None = None) -> None:
        """Writes the index into `folder`, with `metrics` (None: those of the index); replaces an existing index.

        At each instant the folder holds the old index or the new one, whole.

        Raises:
          ValueError: a metric is not finite.
          OSError: the folder cannot be written.
        """

    def parts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Returns the content of the index file: a record with the "kind", and arrays by name."""


@dataclasses.dataclass(frozen=True)
class Answers:
    """The k best candidates of each query, best first.

    Attributes:
      ids: raw ids [q, k]; 0 or "" where no candidate is left.
      scores: inner products [q, k]; -inf where no candidate is left.
      attribute: function from the name of an attribute to its values at the time of the search [q, k, ...]; zero or ""
        where no candidate is left. It returns None if the index has no attribute of this name.
    """

    ids: Shaped[np.ndarray, "q k"]
    scores: Float32[np.ndarray, "q k"]
    attribute: Callable[[str], Shaped[np.ndarray, "q k ..."] | None] = lambda name: None

    @property
    def titles(self) -> Shaped[np.ndarray, "q k"]:
        """The attribute "title" of each candidate as text, its id if it has none; "" where no candidate is left."""
        titles = self.attribute("title")
        titles = np.full(self.ids.shape, "") if titles is None else titles.astype(str)
        if not (untitled := (titles == "") & self.found).any():
            return titles
        return np.where(untitled, self.ids.astype(str), titles)

    @property
    def found(self) -> Bool[np.ndarray, "q k"]:
        """Whether each place holds a candidate [q, k]."""
        return self.scores > -np.inf


@runtime_checkable
class IdIndex(Protocol):
    """Searches candidates by raw id, which may change meanwhile; the engine may be another process.

    `LiveIndex` implements it over any `Searcher`; its methods describe the arguments and errors.
    """

    @classmethod
    def build(cls, ids: Sequence | np.ndarray, *arguments: Any, **settings: Any) -> IdIndex:
        """Makes an index of candidates with these ids."""

    def add(
        self, ids: Sequence | np.ndarray, embeddings: ArrayLike, attributes: Mapping[str, Any] | None = None
    ) -> None:
        """Adds candidates, or replaces those of the same ids, all at once."""

    def remove(self, ids: Sequence | np.ndarray) -> None:
        """Removes candidates, all at once."""

    def search(
        self, queries: ArrayLike, k: int, *, exclude: Sequence | None = None, filter: Filter | None = None
    ) -> Answers:
        """Finds the k candidates with about the largest inner products, or all that are allowed if they are fewer."""

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the present candidates into a folder, whole or not at all."""

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> IdIndex:
        """Reads an index that `save` wrote, verified."""
