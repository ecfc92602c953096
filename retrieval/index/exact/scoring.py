"""Scores of found candidates, each inner product by itself, and their order; the one rule for ties."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Int, Int64

_GATHERED = 1 << 16  # numbers of vectors that are copied at a time


def score(
    embeddings: Float32[np.ndarray, "n d"], queries: Float32[np.ndarray, "q d"], positions: Int[np.ndarray, "q w"]
) -> Float32[np.ndarray, "q w"]:
    """Computes the inner product of each query with each of its positions; -inf for position -1.

    `np.vecdot` computes each inner product by itself, so rounding and ties do not depend on the rest of a batch.
    """
    scores = np.empty(positions.shape, np.float32)
    step = max(1, _GATHERED // max(positions.shape[1] * embeddings.shape[1], 1))
    for start in range(0, len(positions), step):
        block = slice(start, start + step)
        np.vecdot(queries[block, None], embeddings[positions[block]], out=scores[block])
    scores[positions < 0] = -np.inf
    return scores


def best(
    scores: Float32[np.ndarray, "q w"], positions: Int[np.ndarray, "q w"], k: int
) -> tuple[Float32[np.ndarray, "q _"], Int[np.ndarray, "q _"]]:
    """Sorts each row by falling score, ties by rising position, and keeps the first k, or all if there are fewer."""
    order = np.lexsort((positions, -scores))[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1)


def write_best(vectors, rows, queries, owners, found, scores, positions) -> None:
    """Scores the found candidates, whose vectors are `vectors[rows]`, and writes the best k of each query.

    Args:
      vectors: a matrix that has the vectors of all found candidates.
      rows: of `vectors`, one for each found candidate [f].
      queries: of the block [q, d].
      owners: query of each found candidate [f].
      found: position of each found candidate [f].
      scores: written [q, k].
      positions: written [q, k].
    """
    for members, table in _tables(owners, len(queries)):
        is_padding = table < 0
        exact = score(vectors, queries[members], np.where(is_padding, -1, rows[table]))
        width = min(table.shape[1], scores.shape[1])
        ranked = best(exact, np.where(is_padding, -1, found[table]), width)
        scores[members, :width], positions[members, :width] = ranked


def _tables(owners: Int64[np.ndarray, " f"], num_queries: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields groups of queries, and a table of the indices in `owners` that each owns [queries, width], -1 at the end.

    Queries that own from 2**i to 2**(i + 1) - 1 entries are a group. So there are few groups, hence few NumPy calls,
    and less than half of a table is padding, also where one query owns far more than the others (all scores tie).
    Takes O(f) time and memory where the owners ascend, O(f log f) time otherwise.
    """
    order = None if np.all(owners[1:] >= owners[:-1]) else np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=num_queries)
    starts = np.cumsum(counts) - counts
    exponents = np.frexp(counts)[1]  # 2 ** (exponent - 1) <= count < 2 ** exponent
    for exponent in np.unique(exponents[counts > 0]).tolist():
        members = np.flatnonzero(exponents == exponent)
        columns = np.arange(counts[members].max())
        table = np.where(columns < counts[members, None], starts[members, None] + columns, -1)
        yield members, table if order is None else np.where(table < 0, -1, order[table])
