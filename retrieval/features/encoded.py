"""Encoded features, the inputs of a tower: rows of a table with weights, or dense values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int32, Shaped

COMBINERS = ("mean", "sum", "sqrtn")  # how a model combines the rows of one entity


class Spec(NamedTuple):
    """Shape of an encoded feature, from which a model creates its parameters.

    Attributes:
      num_rows: rows of the table, row 0 for missing and unknown values; 0: the feature is dense.
      size: F, the number of dense values, or W, the largest number of rows of an entity in the training part.
      combiner: how several rows are combined, one of `COMBINERS`; "" for a dense feature.
    """

    num_rows: int
    size: int
    combiner: str


class Encoded(NamedTuple):
    """A feature of n entities: rows of a table with weights, or dense values.

    Weights are those of the data, or 1. The model combines the embeddings e of the rows with weights w: "sum" is
    sum(w e), "mean" divides it by sum(w), "sqrtn" by sqrt(sum(w²)).

    Attributes:
      rows: rows of a table, 0 for missing and unknown values [n, W]; None for a dense feature.
      weights: weight of each row, 0 for padding [n, W]; a missing feature has row 0 first, with weight 1. None for a
        dense feature.
      values: dense values [n, F]; the last value is 1, and the others are 0, where the feature is missing. None for
        rows.
    """

    rows: Int32[np.ndarray, "n W"] | None
    weights: Float32[np.ndarray, "n W"] | None
    values: Float32[np.ndarray, "n F"] | None

    @classmethod
    def of_rows(
        cls,
        owners: Int[np.ndarray, "total"],
        rows: Int[np.ndarray, "total"],
        weights: Float32[np.ndarray, "total"],
        num_entities: int,
    ) -> Encoded:
        """Gathers the rows of each entity, padded at the end; an entity without rows misses the feature. O(n W) memory.

        >>> Encoded.of_rows(np.array([0, 0, 2]), np.array([5, 7, 5]), np.ones(3, np.float32), 3).rows.tolist()
        [[5, 7], [0, 0], [5, 0]]

        Args:
          owners: entity of each row, ascending.
          rows: rows of the table.
          weights: weights of the rows, above 0.
          num_entities: n, the number of entities.
        """
        lengths = np.bincount(owners, minlength=num_entities)
        shape = (num_entities, max(int(lengths.max(initial=0)), 1))
        indices = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)  # within each entity
        padded_rows, padded_weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        padded_rows[owners, indices] = rows
        padded_weights[owners, indices] = weights
        padded_weights[lengths == 0, 0] = 1.0
        return cls(padded_rows, padded_weights, None)

    def spread(self, positions: Int[np.ndarray, "m"]) -> Encoded:
        """Returns the feature of the entities at `positions`, in that order; -1 stands for a missing feature.

        >>> Encoded(np.array([[5], [7]], np.int32), np.ones((2, 1), np.float32), None).spread(np.array([1, -1])).rows
        array([[7],
               [0]], dtype=int32)
        """
        found = positions >= 0

        def moved(array, missing):
            if array is None:
                return None
            spread = np.zeros((len(positions), array.shape[1]), array.dtype)
            spread[found] = array[positions[found]]
            if missing is not None:
                spread[~found, missing] = 1
            return spread

        return Encoded(moved(self.rows, None), moved(self.weights, 0), moved(self.values, -1))


TABLE = "table/"  # prefix of the columns that replace a feature of an entity's table


def to_columns(name: str, encoded: Encoded) -> dict[str, Shaped[np.ndarray, "n ..."]]:
    """Converts an encoded feature of n examples to the columns that a `FeatureTower` reads from their context.

    Dense values make one column [n, F]; rows make two columns, rows and weights [n, W].
    """
    if encoded.rows is None:
        return {name: encoded.values}
    weights = np.ones(encoded.rows.shape, np.float32) if encoded.weights is None else encoded.weights
    return {name: encoded.rows, f"{name}/weights": weights}
