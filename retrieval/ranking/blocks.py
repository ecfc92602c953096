"""Computes the dot products of queries and corpus in blocks of one shape, for exact ranks and exact top-k."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32

from retrieval.common.lists import Lists

QUERIES_PER_BLOCK = 512
CANDIDATES_PER_BLOCK = 16384  # with 512 queries, 32 MiB of float32 scores
SMALL_QUERIES_PER_BLOCK = 256  # if one block holds the corpus: the last block of queries has less padding
TILE = 128  # blocks of a large corpus are multiples of TILE, so that their scores are computed in full tiles
PAIRS_AT_A_TIME = 2048
LEAST_PAIRS = 2**14  # capacity for the pairs of a block of queries; usually enough, so one program is compiled


class Pairs(NamedTuple):
    """(query, candidate) pairs of a block of queries, ordered by the block of the corpus that holds the candidate.

    Attributes:
      owners: index of the query in its block [E]; padded with 0.
      rows: row of the candidate in the corpus [E]; padded with 0.
      bounds: block b has the pairs from `bounds[b]` up to, not including, `bounds[b + 1]`; [B + 1].
    """

    owners: Int[np.ndarray | Array, "E"]
    rows: Int[np.ndarray | Array, "E"]
    bounds: Int[np.ndarray | Array, "_"]


def block_shape(num_queries: int, num_candidates: int) -> tuple[int, int]:
    """Returns the numbers of queries and of candidates in one block of scores; both are bounded.

    The number of queries is a power of two, so that calls with different numbers of queries rarely recompile.

    >>> block_shape(941, 1682), block_shape(3, 1_000_000)
    ((256, 1682), (4, 16256))
    """
    blocks = max(1, -(-num_candidates // CANDIDATES_PER_BLOCK))
    most_queries = min(QUERIES_PER_BLOCK, SMALL_QUERIES_PER_BLOCK) if blocks == 1 else QUERIES_PER_BLOCK
    even = -(-num_candidates // (blocks * TILE)) * TILE
    return min(most_queries, power_of_two(num_queries)), max(1, min(even, num_candidates))


def power_of_two(number: int) -> int:
    """Returns the smallest power of two that is at least `number`.

    >>> [power_of_two(n) for n in (0, 1, 5, 8)]
    [1, 1, 8, 8]
    """
    return 1 << max(0, number - 1).bit_length()


def num_blocks(num_candidates: int, size: int) -> int:
    """Returns the number of blocks of `size` candidates that cover the corpus."""
    return -(-num_candidates // size)


def score_block(
    queries: Float[Array, "Q D"], candidates: Float[Array, "N D"], block: Int[Array, ""], size: int
) -> tuple[Float[Array, "Q {size}"], Int[Array, "{size}"]]:
    """Returns the scores of a block of the corpus and the rows of its candidates; for use in compiled functions.

    The last block ends at the end of the corpus, so it can overlap the block before: candidates with a row below
    `block * size` are in both, and the caller must skip them. Masking them here would write all scores a second time.
    """
    first = jnp.minimum(block * size, len(candidates) - size)
    scores = dot(queries, jax.lax.dynamic_slice_in_dim(candidates, first, size))
    return scores, first + jnp.arange(size, dtype=jnp.int32)


def dot(queries: Float[Array, "Q D"], candidates: Float[Array, "n D"]) -> Float[Array, "Q n"]:
    """Computes all dot products in full float32 precision."""
    return jax.lax.dot_general(queries, candidates, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST)


def for_pairs_of(block: Int[Array, ""], pairs: Pairs, visit, carry):
    """Returns `carry` after calls of `visit(carry, start, owners, rows, real)` on the pairs of a block of the corpus.

    Each call gets `PAIRS_AT_A_TIME` pairs from index `start` on; the mask `real` marks the pairs that belong to the
    block. For use in compiled functions.
    """
    low, high = pairs.bounds[block], pairs.bounds[block + 1]

    def visit_next(step, carry):
        start = step * PAIRS_AT_A_TIME
        owners, rows = (jax.lax.dynamic_slice(x, (start,), (PAIRS_AT_A_TIME,)) for x in (pairs.owners, pairs.rows))
        indices = start + jnp.arange(PAIRS_AT_A_TIME, dtype=jnp.int32)
        return visit(carry, start, owners, rows, (low <= indices) & (indices < high))

    return jax.lax.fori_loop(low // PAIRS_AT_A_TIME, -(-high // PAIRS_AT_A_TIME), visit_next, carry)


def pairs_by_block(
    owners: Int[np.ndarray, "e"], rows: Int32[np.ndarray, "e"], blocks: int, size: int, capacity: int
) -> tuple[Pairs, Int[np.ndarray, "e"]]:
    """Returns the pairs ordered by block of the corpus and padded to `capacity`, and their order."""
    blocks_of_pairs = rows // np.int32(size)
    order = np.argsort(blocks_of_pairs, kind="stable") if blocks > 1 else np.arange(len(rows))
    padded = np.zeros((2, capacity), np.int32)
    padded[0, : len(rows)], padded[1, : len(rows)] = owners[order], rows[order]
    bounds = np.concatenate([[0], np.cumsum(np.bincount(blocks_of_pairs, minlength=blocks))]).astype(np.int32)
    return Pairs(padded[0], padded[1], bounds), order


def pad_rows(array: Float32[np.ndarray, "n D"], size: int) -> Float32[np.ndarray, "size D"]:
    """Returns `array` with rows of zeros appended, so that it has `size` rows."""
    return np.concatenate([array, np.zeros((size - len(array), array.shape[1]), array.dtype)])


def check_embeddings(queries, candidates, *lists: Lists | None) -> tuple[int, int]:
    """Checks the shapes of embeddings and lists; returns the numbers of queries and of candidates.

    Raises:
      ValueError: the dimensions differ, the number of lists is not the number of queries, or a list has a row outside
        [0, N).
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
