"""Exact search as a `Searcher`: the whole corpus is looked at, see `retrieval.index.scan`."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32
from numpy.typing import ArrayLike

from retrieval.index import files
from retrieval.index.arguments import (
    Exclusions,
    Norms,
    Subset,
    as_corpus,
    as_exclusions,
    as_subset,
    as_vectors,
    check_k,
)
from retrieval.index.certificate import Certificate
from retrieval.index.scan import exact_top

KIND = "exact"


@dataclasses.dataclass(frozen=True, eq=False)
class ExactIndex:
    """Exact search over fixed candidates; `build` or `load` makes one. Threads may search it at the same time.

    >>> scores, positions = ExactIndex.build([[1, 0], [0, 2], [3, 3]]).search([[1, 1]], k=2, excluded=[[1]])
    >>> scores.tolist(), positions.tolist()
    ([[6.0, 1.0]], [[2, 0]])

    Attributes:
      embeddings: float32 [n, d], read-only.
      figures: numbers saved with it, e.g. `recall_at_10`.
      certificate: how it was chosen, where `tune` did.
    """

    embeddings: Float32[np.ndarray, "n d"]
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    certificate: Certificate | None = None

    @classmethod
    def build(cls, embeddings: ArrayLike) -> ExactIndex:
        """Takes the vectors, [n, d], as float32.

        Raises:
          ValueError: the matrix is empty or not two-dimensional, a row is not finite or its squared norm exceeds
            float32.
        """
        return cls(as_corpus(embeddings))

    def __len__(self) -> int:
        return len(self.embeddings)

    @functools.cached_property
    def norms(self) -> Norms:
        """The norms of the embeddings."""
        return Norms.of(self.embeddings)

    def search(
        self,
        queries: ArrayLike,
        k: int,
        excluded: Exclusions | None = None,
        allowed: Subset | np.ndarray | None = None,
    ) -> tuple[Float32[np.ndarray, "q k"], Int32[np.ndarray, "q k"]]:
        """Finds the k candidates with the largest inner products, as `Searcher.search`; O(q n d) time.

        Raises:
          ValueError: an argument does not fit.
        """
        vectors = as_vectors(queries, "queries", self.embeddings.shape[1])
        check_k(k)
        banned = as_exclusions(excluded, len(vectors), len(self))
        return exact_top(self.embeddings, vectors, k, self.norms, banned, as_subset(allowed, len(self)))

    def rebuilt(self, embeddings: ArrayLike) -> ExactIndex:
        """Returns exact search over other vectors, see `Searcher.rebuilt`."""
        return self.build(embeddings)

    def save(self, folder: str | os.PathLike[str], figures: Mapping[str, float] | None = None) -> None:
        """Writes the index into `folder`, see `Searcher.save`."""
        files.save(folder, *(self if figures is None else dataclasses.replace(self, figures=figures)).parts())

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> ExactIndex:
        """Reads what `save` wrote, see `Searcher.load`."""
        with files.opened(folder, KIND) as parts:
            return cls.of_parts(*parts)

    def parts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Returns what a file holds of it: a record and arrays by name."""
        certificate = None if self.certificate is None else self.certificate.to_record()
        record = {"kind": KIND, "figures": dict(self.figures), "certificate": certificate}
        return record, {"vectors": self.embeddings}

    @classmethod
    def of_parts(cls, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ExactIndex:
        """Returns the index that `parts` described.

        Raises:
          ValueError: they do not fit each other.
        """
        try:
            certificate = Certificate.of_record(record["certificate"])
            return cls(as_corpus(arrays["vectors"]), record["figures"], certificate)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"record and arrays of the index must fit, got {error!r}; save it again") from error
