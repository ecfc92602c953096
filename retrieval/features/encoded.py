"""What a tower reads of a feature: rows of a table with weights, or dense values."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int32, Shaped

COMBINERS = ("mean", "sum", "sqrtn")  # how a model combines the rows of one entity


class Spec(NamedTuple):
    """What a model needs to know of a feature.

    Attributes:
      num_rows: rows of its table, row 0 for what is missing or unknown; 0: the feature is dense.
      size: F, the number of dense values, or W, the most rows that an entity of the training part looks up.
      combiner: of several rows: "mean", "sum" or "sqrtn"; "" of a dense feature.
    """

    num_rows: int
    size: int
    combiner: str


class Encoded(NamedTuple):
    """A feature of n entities: rows of a table with weights, or dense values.

    Weights are as the data give them, 1 if they give none; it is the model that combines the rows:
    sum(w e) is "sum", over sum(w) "mean", over sqrt(sum(w²)) "sqrtn".

    Attributes:
      rows: rows of a table, 0 for what is missing or unknown [n, W]; None: dense.
      weights: weight of each row, 0 for padding [n, W], and 1 for the first, row 0, where the feature is missing; None:
        dense.
      values: dense values, the last of them 1 where the feature is missing and the others then 0 [n, F]; None: rows.
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
        """Gathers rows into those of each entity, padded at the end; an entity without any is missing. O(n W) memory.

        >>> Encoded.of_rows(np.array([0, 0, 2]), np.array([5, 7, 5]), np.ones(3, np.float32), 3).rows.tolist()
        [[5, 7], [0, 0], [5, 0]]

        Args:
          owners: the entity of each row, ascending.
          rows: rows of the table.
          weights: their weights, above 0.
          num_entities: n.
        """
        lengths = np.bincount(owners, minlength=num_entities)
        shape = (num_entities, max(int(lengths.max(initial=0)), 1))
        places = np.arange(len(owners)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        padded_rows, padded_weights = np.zeros(shape, np.int32), np.zeros(shape, np.float32)
        padded_rows[owners, places] = rows
        padded_weights[owners, places] = weights
        padded_weights[lengths == 0, 0] = 1.0
        return cls(padded_rows, padded_weights, None)

    def spread(self, positions: Int[np.ndarray, "m"]) -> Encoded:
        """Returns the feature of the entities at `positions`, in that order; -1 stands for one that misses it.

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


TABLE = "table/"  # before the name of a feature of an entity's table, where it comes in columns


def to_columns(name: str, encoded: Encoded) -> dict[str, Shaped[np.ndarray, "n ..."]]:
    """Returns an encoded feature of n examples as the columns that a `FeatureTower` reads from their context.

    Dense values are one column, [n, F]; rows of a table are two, the rows and their weights, [n, W] each.
    """
    if encoded.rows is None:
        return {name: encoded.values}
    weights = np.ones(encoded.rows.shape, np.float32) if encoded.weights is None else encoded.weights
    return {name: encoded.rows, f"{name}/weights": weights}
