"""The normaliser of a softmax over a batch, in memory that grows with the batch and not with its square."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

SCORES_PER_BLOCK = 2**22  # 16 MiB of float32 scores at a time


class KnownPositives(NamedTuple):
    """Which candidates are positives of which queries, as lists.

    Attributes:
      lists: rows of each query's positives, ascending, padded at the end with a row above all others [U, P].
      rows: the row of each candidate [V].
    """

    lists: Int[Array, "U P"]
    rows: Int[Array, "V"]


def scores_of(queries: Float[Array, "U D"], candidates: Float[Array, "V D"]) -> Float[Array, "U V"]:
    """Returns all dot products, accumulated in float32 where the embeddings are narrower."""
    return jnp.matmul(queries, candidates.T, preferred_element_type=_accumulator(queries))


def log_partition(
    queries: Float[Array, "U D"],
    candidates: Float[Array, "V D"],
    bias: Float[Array, "V"],
    known: KnownPositives | None = None,
    *,
    temperature: float = 1.0,
    scores_per_block: int = SCORES_PER_BLOCK,
) -> Float[Array, "U"]:
    """Returns log sum_v exp(q_u . c_v / T + b_v) of each query, -inf where nothing is left to sum.

    Blocks of queries meet all candidates at a time, and the backward pass computes their scores anew instead of
    keeping them (as in Dao et al. 2022, "FlashAttention"): O(U V D) time, four matrix products where three are the
    least, and O((U + V) D + block) memory instead of O(U V). Gradients flow to queries and candidates; the bias is a
    constant.

    Args:
      queries: embeddings [U, D].
      candidates: embeddings [V, D].
      bias: added to the scores of each candidate [V]; -inf leaves it out.
      known: candidates to leave out of the sums of some queries.
      temperature: T, which divides the dot products.
      scores_per_block: bounds the scores held at a time, where a block is more than one query.
    """
    size = max(1, min(len(queries), scores_per_block // max(1, len(candidates))))
    padding = -len(queries) % size
    blocks = jnp.pad(queries, ((0, padding), (0, 0))).reshape(-1, size, queries.shape[1])
    if known is not None:
        last = jnp.iinfo(known.lists.dtype).max
        lists = jnp.pad(known.lists, ((0, padding), (0, 0)), constant_values=last)
        known = KnownPositives(lists.reshape(-1, size, lists.shape[1]), known.rows)
    return _blocked(temperature, blocks, candidates, jax.lax.stop_gradient(bias), known).reshape(-1)[: len(queries)]


def log_sum(scores: Float[Array, "U V"]) -> Float[Array, "U"]:
    """Returns logsumexp over each row, -inf with zero gradient where the row has nothing but -inf."""
    empty = jnp.all(scores == -jnp.inf, axis=1)
    return jnp.where(empty, -jnp.inf, jax.nn.logsumexp(jnp.where(empty[:, None], 0.0, scores), axis=1))


def is_known_positive(
    lists: Int[Array, "U P"], owners: Int[Array, "*#S"], rows: Int[Array, "*#S"]
) -> Bool[Array, "*S"]:
    """Tells whether `rows` are among the ascending lists of their `owners`, in O(log P) time each and no more memory.

    >>> is_known_positive(jnp.array([[2, 5, 99], [1, 99, 99]]), jnp.array([0, 0, 1]), jnp.array([5, 1, 1]))
    Array([ True, False,  True], dtype=bool)
    """
    shape = jnp.broadcast_shapes(owners.shape, rows.shape)
    low = jnp.zeros(shape, jnp.int32)
    length = lists.shape[1]
    while length > 0:  # the first place whose row is not smaller lies in [low, low + length]
        half = length // 2
        smaller = lists[owners, jnp.minimum(low + half, lists.shape[1] - 1)] < rows
        low = jnp.where(smaller, low + half + 1, low)
        length = max(half, length - half - 1)
    return (low < lists.shape[1]) & (lists[owners, jnp.minimum(low, lists.shape[1] - 1)] == rows)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _blocked(temperature, blocks, candidates, bias, known):
    def totals(_, block):
        return None, log_sum(_scores(temperature, *block, candidates, bias, known))

    return jax.lax.scan(totals, None, (blocks, None if known is None else known.lists))[1]


def _forward(temperature, blocks, candidates, bias, known):
    totals = _blocked(temperature, blocks, candidates, bias, known)
    return totals, (blocks, candidates, bias, known, totals)


def _backward(temperature, kept, cotangents):
    blocks, candidates, bias, known, totals = kept
    kind = _accumulator(blocks)

    def gradients(of_candidates, block):
        queries, lists, totals, weights = block
        held = jnp.where(totals == -jnp.inf, 0.0, totals)  # such a row has no score above -inf
        scores = _scores(temperature, queries, lists, candidates, bias, known)
        shares = (weights / temperature)[:, None] * jnp.exp(scores - held[:, None])
        of_queries = jnp.matmul(shares, candidates.astype(kind))
        return of_candidates + jnp.matmul(shares.T, queries.astype(kind)), of_queries.astype(queries.dtype)

    lists = None if known is None else known.lists
    of_candidates, of_queries = jax.lax.scan(
        gradients, jnp.zeros(candidates.shape, kind), (blocks, lists, totals, cotangents)
    )
    return of_queries, of_candidates.astype(candidates.dtype), None, None


_blocked.defvjp(_forward, _backward)


def _scores(temperature, queries, lists, candidates, bias, known):
    scores = scores_of(queries, candidates) / temperature + bias[None, :]
    if known is None:
        return scores
    owners = jnp.arange(len(queries))[:, None]
    return jnp.where(is_known_positive(lists, owners, known.rows[None, :]), -jnp.inf, scores)


def _accumulator(array):
    return np.promote_types(array.dtype, np.float32)
