"""Encoded features: what a tower reads of a column."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int32


class Spec(NamedTuple):
    """What a model needs to know of a feature.

    Attributes:
      num_rows: rows of its table; 0: the feature is dense.
      size: F, the number of dense values, or W, the rows that one entity looks up.
      combiner: of several rows: "mean", "sum" or "sqrtn".
    """

    num_rows: int
    size: int
    combiner: str


class Encoded(NamedTuple):
    """A feature of n entities: rows of a table with weights, or dense values.

    Attributes:
      rows: rows of a table, 0 for what is missing or unknown [n, W]; None: dense.
      weights: weight of each row, 0 for padding [n, W]; None: all 1.
      values: dense values, the last of them 1 where the feature is missing and the others then 0 [n, F].
    """

    rows: Int32[np.ndarray, "n W"] | None
    weights: Float32[np.ndarray, "n W"] | None
    values: Float32[np.ndarray, "n F"] | None
