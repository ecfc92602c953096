"""`FixedIndex`: base class of the searchers over fixed candidates, with checked searches, norms, and files."""

from __future__ import annotations

import abc
import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32, Int32
from numpy.typing import ArrayLike

from retrieval.common.list_length import check_k
from retrieval.common.lists import Lists
from retrieval.index import files
from retrieval.index.certificate import Certificate
from retrieval.index.checks import Exclusions, as_exclusions, as_subset, as_vectors, without_zero_queries
from retrieval.index.exact.scan import exact_top
from retrieval.index.subset import Norms, Subset


class FixedIndex(abc.ABC):
    """Implements exact search and files of a `Searcher`.

    Subclasses add `build`, `rebuilt`, `parts` and `from_parts`, and override `_find` if search is approximate.

    Attributes:
      kind: name of the class in its files.
      embeddings: float32 [n, d], read-only.
      metrics: numbers that are saved with the index, e.g. `recall_at_10`.
      certificate: of the choice that `tune` made; None if the index was built without `tune`.
    """

    kind: ClassVar[str]
    embeddings: Float32[np.ndarray, "n d"]
    metrics: Mapping[str, float]
    certificate: Certificate | None

    def __len__(self) -> int:
        return len(self.embeddings)

    @functools.cached_property
    def norms(self) -> Norms:
        """The norms of the embeddings."""
        return Norms.from_vectors(self.embeddings)

    def search(
        self,
        queries: ArrayLike,
        k: int,
        excluded: Exclusions | None = None,
        allowed: Subset | np.ndarray | None = None,
    ) -> tuple[Float32[np.ndarray, "q k"], Int32[np.ndarray, "q k"]]:
        """Finds the k candidates with the largest inner products, exactly or approximately, see `Searcher.search`.

        Raises:
          ValueError: an argument does not fit.
        """
        vectors = as_vectors(queries, "queries", self.embeddings.shape[1])
        check_k(k)
        banned = as_exclusions(excluded, len(vectors), len(self))
        found = self._find(vectors, k, banned, as_subset(allowed, len(self)))
        return without_zero_queries(vectors, *found)

    def _find(
        self, queries: Float32[np.ndarray, "q d"], k: int, banned: Lists | None, subset: Subset | None
    ) -> tuple[Float32[np.ndarray, "q k"], Int32[np.ndarray, "q k"]]:
        """Finds the k best exactly, for checked arguments; O(q m d) time for m allowed candidates."""
        return exact_top(self.embeddings, queries, k, self.norms, banned, subset)

    def save(self, folder: str | os.PathLike[str], metrics: Mapping[str, float] | None = None) -> None:
        """Writes the index into `folder`, see `Searcher.save`."""
        files.save(folder, *(self if metrics is None else dataclasses.replace(self, metrics=metrics)).parts())

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> FixedIndex:
        """Reads an index that `save` wrote, verified.

        Raises:
          ValueError: a file is missing or damaged, has another format version, or holds an index of another kind.
        """
        with files.opened(folder, cls.kind) as parts:
            try:
                return cls.from_parts(*parts)
            except ValueError as error:
                raise ValueError(f"{os.fspath(folder)}: {error}") from error

    def __reduce__(self):  # hnswlib cannot pickle a graph that was made from parts
        return type(self).from_parts, self.parts()

    @abc.abstractmethod
    def parts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Returns the content of the index file: a record and arrays by name."""

    @classmethod
    @abc.abstractmethod
    def from_parts(cls, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> FixedIndex:
        """Makes the index from the record and arrays of `parts`; damaged bytes must not crash it.

        Raises:
          ValueError: record and arrays do not fit each other.
        """
