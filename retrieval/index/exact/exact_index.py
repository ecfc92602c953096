"""`ExactIndex`: exact search over a whole corpus as a `Searcher`, see `retrieval.index.exact.scan`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike

from retrieval.index.certificate import Certificate
from retrieval.index.checks import as_corpus
from retrieval.index.fixed_index import FixedIndex


@dataclasses.dataclass(frozen=True, eq=False)
class ExactIndex(FixedIndex):
    """Finds the exact largest inner products among fixed candidates; `build` or `load` makes one.

    Any number of threads may search it at the same time.

    >>> scores, positions = ExactIndex.build([[1, 0], [0, 2], [3, 3]]).search([[1, 1]], k=2, excluded=[[1]])
    >>> scores.tolist(), positions.tolist()
    ([[6.0, 1.0]], [[2, 0]])

    Attributes:
      embeddings: float32 [n, d], read-only.
      metrics: numbers that are saved with the index, e.g. `recall_at_10`.
      certificate: of the choice that `tune` made; None if the index was built without `tune`.
    """

    kind: ClassVar[str] = "exact"
    embeddings: Float32[np.ndarray, "n d"]
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    certificate: Certificate | None = None

    @classmethod
    def build(cls, embeddings: ArrayLike) -> ExactIndex:
        """Builds the index of vectors [n, d], converted to float32.

        Raises:
          ValueError: the matrix is empty or not two-dimensional, a row is not finite or its squared norm exceeds
            float32.
        """
        return cls(as_corpus(embeddings))

    def rebuilt(self, embeddings: ArrayLike) -> ExactIndex:
        """Builds exact search over other vectors, see `Searcher.rebuilt`."""
        return self.build(embeddings)

    def parts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Returns the content of the index file: a record and arrays by name."""
        certificate = None if self.certificate is None else self.certificate.to_record()
        record = {"kind": self.kind, "figures": dict(self.metrics), "certificate": certificate}
        return record, {"vectors": self.embeddings}

    @classmethod
    def from_parts(cls, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ExactIndex:
        """Makes the index from the record and arrays of `parts`.

        Raises:
          ValueError: record and arrays do not fit each other.
        """
        try:
            certificate = Certificate.from_record(record["certificate"])
            return cls(as_corpus(arrays["vectors"]), record["figures"], certificate)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"record and arrays of the index must fit, got {error!r}; save it again") from error
