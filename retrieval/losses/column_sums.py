"""Sums of a function of the scores over the columns of a batch, in memory linear in the batch size."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from retrieval.losses.log_partition import (
    SCORES_PER_BLOCK,
    accumulator,
    bounds_of,
    in_blocks,
    queries_per_block,
    scores_of,
    within,
)
from retrieval.losses.row_sets import KnownPositives


def column_sums(
    function: Callable[[Float[Array, "U V"]], Float[Array, "U V"]],
    queries: Float[Array, "U D"],
    candidates: Float[Array, "V D"],
    counts: Float[Array, "V"],
    *,
    offsets: Float[Array, "U"] | None = None,
    bias: Float[Array, "V"] | None = None,
    known: KnownPositives | None = None,
    temperature: float = 1.0,
    scores_per_block: int = SCORES_PER_BLOCK,
) -> tuple[Float[Array, "U"], Float[Array, "U"]]:
    """Returns sum_v n_v f(q_u . c_v / T + b_v - o_u) of each query, and its number of columns, sum_v n_v.

    Scores are computed for one block of queries at a time; with more than one block, the backward pass recomputes them
    (gradient checkpointing). O(U V D) time, and O((U + V) D + block) memory.

    Args:
      function: f, applied to each score.
      queries: embeddings of the queries [U, D].
      candidates: embeddings of the distinct candidates [V, D].
      counts: n, number of columns with each candidate [V].
      offsets: o, subtracted from the scores of each query [U]; None: 0.
      bias: b, added to the scores of each candidate [V]; None: 0.
      known: candidates to exclude from the sums of some queries.
      temperature: T, which divides the dot products.
      scores_per_block: largest number of scores held at a time; a block has at least one query.

    >>> queries, candidates = jnp.ones((1, 1)), jnp.array([[2.0], [-3.0]])
    >>> [float(x[0]) for x in column_sums(jax.nn.relu, queries, candidates, jnp.array([2.0, 1.0]))]
    [4.0, 3.0]
    """

    def block_sums(block):
        queries, offsets, bounds = block
        scores = scores_of(queries, candidates) / temperature
        if bias is not None:
            scores += bias[None, :]
        if offsets is not None:
            scores -= offsets[:, None]
        kept = jnp.broadcast_to(counts[None, :], scores.shape)
        if known is not None:
            kept = jnp.where(within(known, bounds).table, 0, kept)
        return jnp.sum(kept * function(scores), axis=1), jnp.sum(kept, axis=1)

    columns = queries, offsets, bounds_of(known)
    size = queries_per_block(len(queries), len(candidates), scores_per_block)
    if size == len(queries):  # one block: all scores fit, and are kept for the backward pass
        return block_sums(columns)
    sums, numbers = jax.lax.map(jax.checkpoint(block_sums), in_blocks(columns, size))
    return sums.reshape(-1)[: len(queries)], numbers.reshape(-1)[: len(queries)]


def scores_at(
    queries: Float[Array, "B D"], candidates: Float[Array, "V D"], indices: Int[Array, "B *S"]
) -> Float[Array, "B *S"]:
    """Returns the dot products of each query with the candidates at its indices, in full precision.

    O(B S D) time and memory, for S indices a query.

    >>> scores_at(jnp.array([[2.0]]), jnp.array([[1.0], [3.0]]), jnp.array([[1, 1, 0]])).tolist()
    [[6.0, 6.0, 2.0]]
    """
    precision = {"preferred_element_type": accumulator(queries), "precision": jax.lax.Precision.HIGHEST}
    return jnp.einsum("bd,b...d->b...", queries, candidates[indices], **precision)
