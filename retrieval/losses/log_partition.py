"""Log-partition of a softmax over a batch, in memory linear in the batch size, and helpers for blocks of scores."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from retrieval.losses.row_sets import KnownPositives, RowSets

SCORES_PER_BLOCK = 2**22  # 16 MiB of float32 scores at a time
# on GPUs and TPUs the default precision of float32 products is TF32 or bfloat16
_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def scores_of(queries: Float[Array, "U D"], candidates: Float[Array, "V D"]) -> Float[Array, "U V"]:
    """Returns all dot products in full precision, accumulated in float32 if the embeddings are narrower.

    >>> scores_of(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 4.0], [0.0, 1.0]])).tolist()
    [[11.0, 2.0]]
    """
    return _product(queries, candidates.T, preferred_element_type=accumulator(queries))


def log_partition(
    queries: Float[Array, "U D"],
    candidates: Float[Array, "V D"],
    bias: Float[Array, "V"],
    known: KnownPositives | None = None,
    *,
    temperature: float = 1.0,
    scores_per_block: int = SCORES_PER_BLOCK,
) -> Float[Array, "U"]:
    """Returns log sum_v exp(q_u . c_v / T + b_v) of each query, -inf if no candidate is left.

    Scores are computed for one block of queries at a time, against all candidates. The backward pass recomputes them
    instead of storing them (as Dao et al. 2022, "FlashAttention", section 3.1): O(U V D) time with four matrix products
    instead of three, and O((U + V) D + block) memory instead of O(U V). Gradients flow to queries and candidates; the
    bias is a constant.

    Args:
      queries: embeddings of the queries [U, D].
      candidates: embeddings of the candidates [V, D].
      bias: b, added to the scores of each candidate [V]; -inf excludes the candidate.
      known: candidates to exclude from the sums of some queries.
      temperature: T, which divides the dot products.
      scores_per_block: largest number of scores held at a time; a block has at least one query.

    >>> print(log_partition(jnp.ones((1, 1)), jnp.log(jnp.array([[1.0], [3.0]])), jnp.zeros(2)))  # log(1 + 3)
    [1.3862944]
    """
    size = queries_per_block(len(queries), len(candidates), scores_per_block)
    blocks, bounds = in_blocks((queries, bounds_of(known)), size)
    if known is not None:
        known = within(known, bounds)
    return _blocked(temperature, blocks, candidates, jax.lax.stop_gradient(bias), known).reshape(-1)[: len(queries)]


def queries_per_block(num_queries: int, num_candidates: int, scores_per_block: int) -> int:
    """Returns the number of queries in a block: at least one, at most all."""
    return max(1, min(num_queries, scores_per_block // max(1, num_candidates)))


def in_blocks(columns: Any, size: int) -> Any:
    """Returns each array [n, ...] of a tree as blocks [blocks, size, ...], padded with zeros."""

    def cut(column):
        filled = jnp.pad(column, ((0, -len(column) % size), *[(0, 0)] * (column.ndim - 1)))
        return filled.reshape(-1, size, *column.shape[1:])

    return jax.tree.map(cut, columns)


def bounds_of(known: KnownPositives | None) -> tuple[Int[Array, "*S"], Int[Array, "*S"]] | None:
    """Returns starts and ends of the queries' sets, the part of known positives that is cut into blocks of queries."""
    return None if known is None else known.positives[1:]


def within(known: KnownPositives, bounds: tuple[Int[Array, "*S"], Int[Array, "*S"]]) -> KnownPositives:
    """Returns the known positives of the queries with these starts and ends; padding, with equal ones, has none."""
    return KnownPositives(RowSets(known.positives.rows, *bounds), known.rows)


def log_sum(scores: Float[Array, "U V"]) -> Float[Array, "U"]:
    """Returns logsumexp over each row; -inf, with a gradient of 0, if all entries are -inf.

    >>> log_sum(jnp.array([[0.0, 0.0], [-jnp.inf, -jnp.inf]]))
    Array([0.6931472,      -inf], dtype=float32)
    """
    # both branches of a `where` are differentiated: the inner one keeps the NaN of logsumexp(-inf) out of the gradient
    empty = jnp.all(scores == -jnp.inf, axis=1)
    return jnp.where(empty, -jnp.inf, jax.nn.logsumexp(jnp.where(empty[:, None], 0.0, scores), axis=1))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _blocked(temperature, blocks, candidates, bias, known):
    def totals(_, block):
        return None, log_sum(_scores(temperature, *block, candidates, bias, known))

    return jax.lax.scan(totals, None, (blocks, bounds_of(known)))[1]


def _forward(temperature, blocks, candidates, bias, known):
    totals = _blocked(temperature, blocks, candidates, bias, known)
    return totals, (blocks, candidates, bias, known, totals)


def _backward(temperature, residuals, cotangents):
    # With Z_u the log-partition, p_uv = exp(s_uv - Z_u) the softmax and g_u the cotangent of Z_u:
    #   dL/dq_u = g_u / T sum_v p_uv c_v        dL/dc_v = sum_u g_u / T p_uv q_u
    # Only Z is stored; s, and with it p, is recomputed from one block of queries at a time.
    blocks, candidates, bias, known, totals = residuals
    dtype = accumulator(blocks)

    def gradients(candidate_gradient, block):
        queries, bounds, totals, weights = block
        finite_totals = jnp.where(totals == -jnp.inf, 0.0, totals)  # all scores are -inf: p becomes 0 instead of NaN
        scores = _scores(temperature, queries, bounds, candidates, bias, known)
        shares = (weights / temperature)[:, None] * jnp.exp(scores - finite_totals[:, None])  # g_u / T p_uv
        query_gradient = _product(shares, candidates.astype(dtype))
        return candidate_gradient + _product(shares.T, queries.astype(dtype)), query_gradient.astype(queries.dtype)

    candidate_gradient, query_gradients = jax.lax.scan(
        gradients, jnp.zeros(candidates.shape, dtype), (blocks, bounds_of(known), totals, cotangents)
    )
    return query_gradients, candidate_gradient.astype(candidates.dtype), None, None


_blocked.defvjp(_forward, _backward)


def _scores(temperature, queries, bounds, candidates, bias, known):
    """Returns the biased scores of a block of queries, -inf at known positives."""
    scores = scores_of(queries, candidates) / temperature + bias[None, :]
    return scores if known is None else without_known(scores, within(known, bounds))


def without_known(scores: Float[Array, "U V"], known: KnownPositives) -> Float[Array, "U V"]:
    """Returns the scores with -inf at the known positives of each query."""
    return jnp.where(known.table, -jnp.inf, scores)


def accumulator(array: Shaped[Array, "..."]) -> np.dtype:
    """Returns the dtype in which products of such arrays are summed: float32, or that of the array if it is wider."""
    return np.promote_types(array.dtype, np.float32)
