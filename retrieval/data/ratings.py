"""Checks of ratings, the same for files and arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32

from retrieval.common.errors import DataError
from retrieval.data.column_values import as_column
from retrieval.data.columns import Refuse, RefusedValue, is_present, values_of


def as_ratings(values: Any, name: str) -> Float32[np.ndarray, "n"]:
    """Converts a list, an array, or a column of pandas, polars or pyarrow to ratings.

    Raises:
      DataError: a rating is missing, negative or no finite number; the message names the row, from 0.
    """
    column = as_column(values if hasattr(values, "__len__") else list(values), name)
    if column.ndim != 1 or values_of(column).dtype.kind not in "iufb" and len(column):
        raise DataError(f"{name} must be one number for each interaction, got {values!r:.80}")
    with np.errstate(over="ignore"):  # then infinite, which is refused
        ratings = values_of(column).astype(np.float32)

    def refuse(row: int, problem: str, remedy: str) -> RefusedValue:
        return RefusedValue(name, row, f"{problem}, got {column[row]}; {remedy}")

    for row in np.flatnonzero(~is_present(column))[:1]:
        raise RefusedValue(
            name, int(row), "missing rating; drop the row, or say which are unknown by `with_unknown_ratings`"
        )
    check_ratings(ratings, refuse)
    return ratings


def check_ratings(ratings: Float32[np.ndarray, "n"], refuse: Refuse, low: float = 0.0, high: float = np.inf) -> None:
    """Refuses the first rating that is no finite number or outside [low, high], by the error that `refuse` makes."""
    remedy = f"use ratings from {low:g} to {high:g}" if np.isfinite(high) else f"use ratings from {low:g} up"
    for is_bad, problem in (
        (~np.isfinite(ratings), "rating is not finite"),
        (~((ratings >= low) & (ratings <= high)), "rating out of range"),
    ):
        if is_bad.any():
            raise refuse(int(np.argmax(is_bad)), problem, remedy)
