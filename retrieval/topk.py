"""Exact top-k over the full corpus, in blocks of queries."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32

from retrieval.lists import Lists

PADDING_ROW = -1  # stands where fewer than k candidates are left
SCORES_PER_BLOCK = 2**22  # 16 MiB of float32 scores at a time


def top_k(
    queries: Float[Array, "Q D"] | Float32[np.ndarray, "Q D"],
    candidates: Float[Array, "N D"] | Float32[np.ndarray, "N D"],
    k: int,
    excluded: Lists | None = None,
) -> tuple[Float32[np.ndarray, "Q k"], Int32[np.ndarray, "Q k"]]:
    """Returns the scores and rows of the k candidates with the highest dot product with each query.

    Scores descend; equal scores stand in the order of their rows. Where fewer than k candidates are left, the
    row is -1 and the score -inf. Takes O(Q N D) time and O(max(N, block)) memory beside its inputs and outputs.

    Args:
      queries: query embeddings [Q, D].
      candidates: candidate embeddings [N, D].
      k: how many to return, at least 1; may exceed N.
      excluded: rows of the candidates that each query must not get.

    >>> top_k(np.eye(2, dtype=np.float32), np.array([[1., 5.], [3., 5.]], np.float32), 2)[1]
    array([[1, 0],
           [0, 1]], dtype=int32)
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    num_queries, num_candidates = check_embeddings(queries, candidates, excluded)
    scores = np.full((num_queries, k), -np.inf, np.float32)
    rows = np.full((num_queries, k), PADDING_ROW, np.int32)
    found = min(k, num_candidates)
    if found == 0 or num_queries == 0:
        return scores, rows
    excluded = Lists.empty(num_queries) if excluded is None else excluded
    size = block_size(num_queries, num_candidates)
    capacity = excluded.capacity(size)
    for start in range(0, num_queries, size):
        block = pad_rows(queries[start : start + size], size)
        best = _top_k_block(block, candidates, *excluded.block(start, size, capacity), found)
        stop = min(start + size, num_queries)
        scores[start:stop, :found], rows[start:stop, :found] = (x[: stop - start] for x in best)
    return scores, rows


def masked_scores(
    queries: Float[Array, "Q D"],
    candidates: Float[Array, "N D"],
    excluded_owners: Int[Array, "E"],
    excluded_rows: Int[Array, "E"],
) -> Float[Array, "Q N"]:
    """Returns all dot products, with -inf at the excluded (owner, row) pairs; owners >= Q are padding."""
    scores = jnp.matmul(queries, candidates.T, precision=jax.lax.Precision.HIGHEST)
    return scores.at[excluded_owners, excluded_rows].set(-jnp.inf, mode="drop")


def block_size(num_queries: int, num_candidates: int) -> int:
    """Returns how many queries are scored at a time, so that memory does not grow with their number."""
    return max(1, min(num_queries, SCORES_PER_BLOCK // max(1, num_candidates)))


def pad_rows(array: Float[Array, "n D"] | Float32[np.ndarray, "n D"], size: int) -> Float[Array, "size D"]:
    """Returns `array` with rows of zeros appended up to `size`, so that the last block compiles no second program."""
    return jnp.pad(array, ((0, size - len(array)), (0, 0)))


def check_embeddings(queries, candidates, *lists: Lists | None) -> tuple[int, int]:
    """Returns the numbers of queries and candidates.

    Raises:
      ValueError: the dimensions differ, there is not one list per query, or a row in a list is no candidate's.
    """
    if queries.ndim != 2 or candidates.ndim != 2 or queries.shape[1] != candidates.shape[1]:
        raise ValueError(f"queries [Q, D] and candidates [N, D] needed, got {queries.shape}, {candidates.shape}")
    for rows in lists:
        if rows is None:
            continue
        if len(rows) != len(queries):
            raise ValueError(f"one list per query needed, got {len(rows)} lists for {len(queries)} queries")
        if len(rows.rows) and not (0 <= rows.rows.min() and rows.rows.max() < len(candidates)):
            raise ValueError(f"rows must be in [0, {len(candidates)}), got {rows.rows.min()} to {rows.rows.max()}")
    return len(queries), len(candidates)


@functools.partial(jax.jit, static_argnames="k")
def _top_k_block(queries, candidates, excluded_owners, excluded_rows, k):
    scores = masked_scores(queries, candidates, excluded_owners, excluded_rows)
    scores = jnp.where(scores == 0, 0.0, scores)  # the sort puts -0.0 after 0.0, though they are equal
    scores, rows = jax.lax.top_k(scores, k)
    return scores, jnp.where(scores == -jnp.inf, PADDING_ROW, rows)
