"""Vectors in the data, as sentence embeddings of titles."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from retrieval.common.errors import DataError
from retrieval.data.column_values import as_column
from retrieval.data.columns import is_present, type_of
from retrieval.data.joined_values import split_values
from retrieval.features.base import Encoder, FeatureSettings, require
from retrieval.features.encoded import Encoded, Spec
from retrieval.features.values import refused, to_numbers, to_texts


@dataclasses.dataclass(frozen=True)
class Vector(Encoder):
    """Vectors, unchanged, with the missing indicator: [n, size + 1].

    A column of vectors is an array [n, size], in which a vector of NaN is missing, or text as "0.1 0.2" or "0.1|0.2",
    in which "" is missing.

    >>> Vector("embedding", size=2).encode(["1 2", ""]).values
    array([[1., 2., 0.],
           [0., 0., 1.]], dtype=float32)

    Attributes:
      size: length of a vector; 0: the training part has no vector.
    """

    kind = "vector"

    size: int

    def __post_init__(self):
        require(self.size >= 0, "size must be at least 0", self.size)

    @classmethod
    def fit(cls, feature: FeatureSettings, values: Sequence | np.ndarray, weights: None) -> Vector:
        """Fits the length to the first vector of the training part; O(n size) time."""
        column = feature.column
        return cls(column, _read(values, column, None).shape[1])

    @property
    def spec(self) -> Spec:
        """The numbers of a vector and the missing indicator."""
        return Spec(0, self.size + 1, "")

    def _encode(self, values, weights) -> Encoded:
        vectors = _read(values, self.column, self.size)
        absent = np.isnan(vectors)
        missing = absent.all(axis=1)
        partly = np.flatnonzero(absent.any(axis=1) & ~missing)
        if len(partly):
            raise refused(
                self.column, int(partly[0]), "a vector must have all or none of its numbers, got NaN among them"
            )
        # Zeros and the indicator: NaN would reach the gradients of all examples of a batch.
        marked = np.concatenate([np.where(missing[:, None], 0.0, vectors), missing[:, None]], axis=1)
        return Encoded(None, None, marked.astype(np.float32))


def _read(values: Sequence | np.ndarray, column: str, size: int | None) -> Float64[np.ndarray, "n size"]:
    """Parses vectors of `size` numbers (None: of the first vector's length); NaN for missing vectors."""
    array = as_column(values, f"feature {column!r}")
    if array.ndim == 2:
        num_rows, found = array.shape
        if size is not None and found != size:
            raise DataError(f"feature {column!r}: vectors must have {size} numbers, got {found}; see the training part")
        rows = np.repeat(np.arange(num_rows), found)
        return to_numbers(array.ravel(), column, rows).reshape(num_rows, found)
    if array.dtype.kind not in "UO" and is_present(array).any():
        raise DataError(f"feature {column!r}: vectors must be [n, size] or text, got {type_of(array)}, {array.shape}")
    parts = [" ".join(split_values(text)).split() for text in to_texts(array, column).tolist()]
    size = next((len(part) for part in parts if part), 0) if size is None else size
    for row, part in enumerate(parts):
        if part and len(part) != size:
            raise refused(column, row, f"a vector must have {size} numbers, got {len(part)}")
    vectors = np.full((len(parts), size), np.nan)
    filled = np.flatnonzero([bool(part) for part in parts])
    flat = np.array([number for part in parts for number in part], np.str_)
    vectors[filled] = to_numbers(flat, column, np.repeat(filled, size)).reshape(len(filled), size)
    return vectors
