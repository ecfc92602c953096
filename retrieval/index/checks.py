"""Checks and converts the arguments of searches: vectors, positions, exclusions, and subsets of the corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64
from numpy.typing import ArrayLike

from retrieval.common.lists import Lists
from retrieval.index.subset import Subset

_NO_LISTS = str | bytes | Set | Mapping  # types with a length that are not a list of one entry per query

Exclusions = Lists | Sequence[ArrayLike]  # one list of positions per query


def as_matrix(values: ArrayLike, name: str) -> Float32[np.ndarray, "..."]:
    """Converts values of any shape to float32.

    Raises:
      ValueError: values are not numbers, or rows have different lengths.
    """
    try:
        return np.ascontiguousarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be vectors in rows, an array of numbers, got {values!r:.80}: {error}") from None


def as_vectors(values: ArrayLike, name: str, dimension: int | None = None) -> Float32[np.ndarray, "n d"]:
    """Converts values to a float32 matrix; by Cauchy-Schwarz, all inner products of its rows are finite.

    Raises:
      ValueError: the shape is not [n, `dimension`], or a row is not finite or its squared norm exceeds float32.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        vectors = as_matrix(values, name)
        if vectors.ndim != 2 or dimension not in (None, vectors.shape[1]):
            columns = "d" if dimension is None else dimension
            raise ValueError(f"{name} must be vectors in rows, shape [n, {columns}], got shape {vectors.shape}")
        squared = np.vecdot(vectors, vectors)
    if not np.isfinite(squared).all():
        bad = np.flatnonzero(~np.isfinite(squared))
        raise ValueError(
            f"{name} must be finite with squared norms in float32, got {squared[bad[0]]} in row {bad[0]} "
            f"({bad.size} such rows); did the training diverge?"
        )
    return vectors


def as_corpus(values: ArrayLike) -> Float32[np.ndarray, "n d"]:
    """Converts the vectors of a corpus to a read-only float32 matrix, a copy unless the input is read-only float32.

    Raises:
      ValueError: as `as_vectors`, or the matrix is empty.
    """
    vectors = as_vectors(values, "embeddings")
    if vectors.size == 0:
        raise ValueError(f"embeddings must have a row and a column at least, got shape {vectors.shape}")
    if vectors.flags.writeable:
        vectors = vectors.copy() if np.shares_memory(vectors, np.asarray(values)) else vectors
        vectors.flags.writeable = False
    return vectors


def without_zero_queries(
    queries: Float32[np.ndarray, "q d"], scores: Float32[np.ndarray, "q k"], positions: Int32[np.ndarray, "q k"]
) -> tuple[Float32[np.ndarray, "q k"], Int32[np.ndarray, "q k"]]:
    """Replaces the answers of zero queries, which score 0 with each candidate, by score -inf and position -1."""
    is_zero = ~queries.any(axis=1, keepdims=True)
    if not is_zero.any():
        return scores, positions
    return np.where(is_zero, np.float32(-np.inf), scores), np.where(is_zero, np.int32(-1), positions)


def as_positions(values: ArrayLike, name: str, count: int) -> Int64[np.ndarray, " m"]:
    """Converts positions to int64.

    Raises:
      ValueError: values are not one-dimensional integers in [0, count).
    """
    positions = np.asarray(values)
    if positions.ndim != 1 or (positions.size and positions.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be integers in one dimension, got {positions.dtype} of shape {positions.shape}")
    bad = positions[(positions < 0) | (positions >= count)]
    if bad.size:
        raise ValueError(f"{name} must be rows of the index, in [0, {count}), got {bad[0]}; leave others out")
    return positions.astype(np.int64)


def as_exclusions(excluded: Exclusions | None, num_queries: int, count: int) -> Lists | None:
    """Converts the positions that each query must not get to `Lists`; None: no exclusions.

    Raises:
      ValueError: the number of lists is not that of the queries, or a list has values that are not in [0, count).
    """
    if excluded is None:
        return None
    check_listed("excluded", excluded, num_queries)
    if not isinstance(excluded, Lists):
        lists = [as_positions(values, f"excluded[{query}]", count) for query, values in enumerate(excluded)]
        offsets = np.concatenate([[0], np.cumsum([len(positions) for positions in lists])]).astype(np.int64)
        excluded = Lists(offsets, np.concatenate([*lists, np.zeros(0, np.int64)]).astype(np.int32))
    elif (bad := (excluded.rows < 0) | (excluded.rows >= count)).any():
        first = int(np.argmax(bad))
        as_positions(excluded.rows[first : first + 1], f"excluded[{excluded.owners[first]}]", count)
    return excluded if len(excluded.rows) else None


def as_subset(allowed: Subset | Bool[np.ndarray, " n"] | None, count: int) -> Subset | None:
    """Converts the candidates that may be found to a `Subset`; None: all.

    Raises:
      ValueError: `allowed` is not booleans of shape [count].
    """
    if allowed is None or isinstance(allowed, Subset):
        mask = None if allowed is None else allowed.mask
    else:
        mask = np.asarray(allowed)
        allowed = Subset(mask)
    if mask is not None and (mask.dtype != bool or mask.shape != (count,)):
        raise ValueError(f"allowed must be booleans of shape [{count}], got {mask.dtype} of shape {mask.shape}")
    return allowed


def check_listed(name: str, values: object, num_queries: int) -> None:
    """Raises ValueError unless `values` is a list or array, not text, a set or a mapping, with one entry per query."""
    is_listed = hasattr(values, "__len__") and getattr(values, "ndim", 1) > 0 and not isinstance(values, _NO_LISTS)
    if not is_listed or len(values) != num_queries:
        got = len(values) if is_listed else f"{values!r:.80}"
        raise ValueError(f"{name} must be a list with an entry for each of {num_queries} queries, got {got}")


def check_flag(name: str, value: bool) -> None:
    """Raises ValueError unless `value` is True or False; a text such as "no" would count as true."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_threads(threads: int) -> None:
    """Raises ValueError unless `threads` is an integer of at least 0; hnswlib takes a negative one for all cores."""
    if not isinstance(threads, int | np.integer) or isinstance(threads, bool) or threads < 0:
        raise ValueError(f"threads must be an integer, at least 0 (all cores), got {threads!r}")


def nothing(num_queries: int, k: int) -> tuple[Float32[np.ndarray, "q k"], Int32[np.ndarray, "q k"]]:
    """Returns the scores and positions of empty answers: -inf and -1."""
    return np.full((num_queries, k), -np.inf, np.float32), np.full((num_queries, k), -1, np.int32)
