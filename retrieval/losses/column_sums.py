"""Sums over the columns of a batch that are no log-partition, in the memory of a block."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from retrieval.losses.log_partition import (
    SCORES_PER_BLOCK,
    KnownPositives,
    accumulator,
    bounds_of,
    in_blocks,
    queries_per_block,
    scores_of,
    within,
)


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
    """Returns sum_v n_v f(q_u . c_v / T + b_v - o_u) of each query, and the number of columns in it, sum_v n_v.

    O(U V D) time, and O((U + V) D + block) memory: blocks of queries meet all candidates at a time, and where there is
    more than one block, the backward pass computes their scores anew.

    Args:
      function: f, of each score.
      queries: embeddings [U, D].
      candidates: embeddings [V, D].
      counts: n, how many columns hold each candidate [V].
      offsets: o, subtracted from the scores of each query [U]; None: 0.
      bias: b, added to the scores of each candidate [V]; None: 0.
      known: candidates to leave out of the sums of some queries.
      temperature: T, which divides the dot products.
      scores_per_block: bounds the scores held at a time, where a block is more than one query.

    >>> queries, candidates = jnp.ones((1, 1)), jnp.array([[2.0], [-3.0]])
    >>> [float(x[0]) for x in column_sums(jax.nn.relu, queries, candidates, jnp.array([2.0, 1.0]))]
    [4.0, 3.0]
    """

    def of_block(block):
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
    if size == len(queries):
        return of_block(columns)
    sums, numbers = jax.lax.map(jax.checkpoint(of_block), in_blocks(columns, size))
    return sums.reshape(-1)[: len(queries)], numbers.reshape(-1)[: len(queries)]


def scores_at(
    queries: Float[Array, "B D"], candidates: Float[Array, "V D"], indices: Int[Array, "B *S"]
) -> Float[Array, "B *S"]:
    """Returns the dot products of each query with some of the candidates, those at its indices, in full precision."""
    kind = {"preferred_element_type": accumulator(queries), "precision": jax.lax.Precision.HIGHEST}
    return jnp.einsum("bd,b...d->b...", queries, candidates[indices], **kind)
