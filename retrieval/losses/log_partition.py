"""The normaliser of a softmax over a batch, in memory that grows with the batch and not with its square."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from retrieval.common.lists import Lists

SCORES_PER_BLOCK = 2**22  # 16 MiB of float32 scores at a time
_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)  # GPUs cut float32 products otherwise


class RowSets(NamedTuple):
    """Sets of candidate rows, one a query, in compressed sparse rows on the device.

    Attributes:
      rows: the sets one after the other, ascending in each, and one more entry that no set holds [n + 1].
      starts: where each set starts [U].
      ends: where it ends [U].
    """

    rows: Int[Array, "_"]
    starts: Int[Array, "U"]
    ends: Int[Array, "U"]

    @classmethod
    def of(cls, lists: Lists) -> RowSets:
        """Returns the lists as sets.

        >>> RowSets.of(Lists.from_sequences([[5, 2], [], [1]])).rows.tolist()[:3]
        [2, 5, 1]
        """
        sets = lists.sets()
        offsets = sets.offsets.astype(np.int32)
        return cls(*map(jnp.asarray, (np.append(sets.rows, np.int32(-1)), offsets[:-1], offsets[1:])))

    def take(self, queries: Int[Array, "U2"]) -> RowSets:
        """Returns the sets of some queries."""
        return self._replace(starts=self.starts[queries], ends=self.ends[queries])

    def contain(self, queries: Int[Array, "*#S"], rows: Int[Array, "*#S"]) -> Bool[Array, "*S"]:
        """Tells whether rows are in the sets of queries, by O(log size of the largest set) look-ups each.

        >>> sets = RowSets.of(Lists.from_sequences([[5, 2], [], [1]]))
        >>> sets.contain(jnp.array([0, 0, 1, 2]), jnp.array([5, 1, 1, 1])).tolist()
        [True, False, False, True]
        """
        shape = jnp.broadcast_shapes(queries.shape, rows.shape)
        first, ends = (jnp.broadcast_to(bounds[queries], shape) for bounds in (self.starts, self.ends))

        def narrow(bounds):  # the first place whose row is not smaller lies in [low, high]
            low, high = bounds
            middle = (low + high) // 2
            smaller, is_open = self.rows[middle] < rows, low < high
            return jnp.where(is_open & smaller, middle + 1, low), jnp.where(is_open & ~smaller, middle, high)

        indices, _ = jax.lax.while_loop(lambda bounds: jnp.any(bounds[0] < bounds[1]), narrow, (first, ends))
        return (indices < ends) & (self.rows[indices] == rows)


class KnownPositives(NamedTuple):
    """Which of a batch's candidates are positives of which of its queries.

    Attributes:
      positives: rows of each query's positives.
      rows: the row of each candidate [V].
    """

    positives: RowSets
    rows: Int[Array, "V"]

    @property
    def table(self) -> Bool[Array, "U V"]:
        """True where the candidate is a positive of the query."""
        queries = jnp.arange(len(self.positives.starts))[:, None]
        return self.positives.contain(queries, self.rows[None, :])


def scores_of(queries: Float[Array, "U D"], candidates: Float[Array, "V D"]) -> Float[Array, "U V"]:
    """Returns all dot products in full precision, accumulated in float32 where the embeddings are narrower."""
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
    size = queries_per_block(len(queries), len(candidates), scores_per_block)
    blocks, bounds = in_blocks((queries, bounds_of(known)), size)
    if known is not None:
        known = within(known, bounds)
    return _blocked(temperature, blocks, candidates, jax.lax.stop_gradient(bias), known).reshape(-1)[: len(queries)]


def queries_per_block(num_queries: int, num_candidates: int, scores_per_block: int) -> int:
    """Returns how many queries meet all candidates at a time: at least one, at most all."""
    return max(1, min(num_queries, scores_per_block // max(1, num_candidates)))


def in_blocks(columns: Any, size: int) -> Any:
    """Returns arrays [n, ...], in any tree, as blocks [blocks, size, ...], filled up with zeros."""

    def cut(column):
        filled = jnp.pad(column, ((0, -len(column) % size), *[(0, 0)] * (column.ndim - 1)))
        return filled.reshape(-1, size, *column.shape[1:])

    return jax.tree.map(cut, columns)


def bounds_of(known: KnownPositives | None) -> tuple[Int[Array, "*S"], Int[Array, "*S"]] | None:
    """Returns where the sets of the queries start and end, which is what blocks of queries cut."""
    return None if known is None else known.positives[1:]


def within(known: KnownPositives, bounds: tuple[Int[Array, "*S"], Int[Array, "*S"]]) -> KnownPositives:
    """Returns the known positives of the queries whose sets have these bounds; equal ones are an empty set."""
    return KnownPositives(RowSets(known.positives.rows, *bounds), known.rows)


def log_sum(scores: Float[Array, "U V"]) -> Float[Array, "U"]:
    """Returns logsumexp over each row, -inf with zero gradient where the row has nothing but -inf."""
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


def _backward(temperature, kept, cotangents):
    blocks, candidates, bias, known, totals = kept
    kind = accumulator(blocks)

    def gradients(of_candidates, block):
        queries, bounds, totals, weights = block
        held = jnp.where(totals == -jnp.inf, 0.0, totals)  # such a row has no score above -inf
        scores = _scores(temperature, queries, bounds, candidates, bias, known)
        shares = (weights / temperature)[:, None] * jnp.exp(scores - held[:, None])
        of_queries = _product(shares, candidates.astype(kind))
        return of_candidates + _product(shares.T, queries.astype(kind)), of_queries.astype(queries.dtype)

    of_candidates, of_queries = jax.lax.scan(
        gradients, jnp.zeros(candidates.shape, kind), (blocks, bounds_of(known), totals, cotangents)
    )
    return of_queries, of_candidates.astype(candidates.dtype), None, None


_blocked.defvjp(_forward, _backward)


def _scores(temperature, queries, bounds, candidates, bias, known):
    scores = scores_of(queries, candidates) / temperature + bias[None, :]
    return scores if known is None else without_known(scores, within(known, bounds))


def without_known(scores: Float[Array, "U V"], known: KnownPositives) -> Float[Array, "U V"]:
    """Returns the scores with -inf at the known positives of each query."""
    return jnp.where(known.table, -jnp.inf, scores)


def accumulator(array: Shaped[Array, "..."]) -> np.dtype:
    """Returns the type that products of such arrays are summed in: float32, or the array's own where it is wider."""
    return np.promote_types(array.dtype, np.float32)
