"""Exact ranks of relevant candidates among the full corpus, by counting instead of sorting.

The scores of a block of queries and candidates are compared with those of the relevant candidates while they are in
the cache; nothing is sorted and nothing of the size of the corpus is stored. What is excluded is counted with the rest
and subtracted afterwards, so that ranks with and without it come from one pass over the scores.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int, Int32

from retrieval.common.lists import Lists
from retrieval.ranking import blocks as scoring
from retrieval.ranking.keys import encode_by_owner

RELEVANT_PER_ROW = 16  # a query with more relevant candidates takes several rows of a block


class Ranks(NamedTuple):
    """How the corpus stands to each relevant candidate, in the order of `Lists.rows`; each int32 [total].

    The rank (0 is best) under each policy for equal scores follows:

    Attributes:
      higher: candidates with a strictly higher score, or NaN. A relevant candidate that is excluded, or whose
        score is NaN or -inf, has all of them.
      equal_before: other candidates with an equal score and a lower row.
      equal: other candidates with an equal score.
    """

    higher: Int32[np.ndarray, "total"]
    equal_before: Int32[np.ndarray, "total"]
    equal: Int32[np.ndarray, "total"]

    @property
    def ordinal(self) -> Int32[np.ndarray, "total"]:
        """Place in the list that `top_k` returns: equal scores in the order of their rows."""
        return self.higher + self.equal_before

    @property
    def optimistic(self) -> Int32[np.ndarray, "total"]:
        """Best place that any order of equal scores gives; the policy of TensorFlow Recommenders."""
        return self.higher

    @property
    def pessimistic(self) -> Int32[np.ndarray, "total"]:
        """Worst place that any order of equal scores gives."""
        return self.higher + self.equal

    @property
    def mean(self) -> Float64[np.ndarray, "total"]:
        """Mean place over all orders of equal scores."""
        return self.higher + self.equal / 2


def rank(
    queries: Float[Array, "Q D"] | Float32[np.ndarray, "Q D"],
    candidates: Float[Array, "N D"] | Float32[np.ndarray, "N D"],
    relevant: Lists,
    excluded: Lists | None = None,
) -> Ranks:
    """Ranks each query's relevant candidates among all candidates that are not excluded for it.

    See `rank_each`, of which this is the case of one exclusion.
    """
    return rank_each(queries, candidates, relevant, [excluded])[0]


def rank_each(
    queries: Float[Array, "Q D"] | Float32[np.ndarray, "Q D"],
    candidates: Float[Array, "N D"] | Float32[np.ndarray, "N D"],
    relevant: Lists,
    exclusions: Sequence[Lists | None],
) -> list[Ranks]:
    """Ranks each query's relevant candidates, once for each way to exclude others, in one pass over the scores.

    The score of a relevant or excluded candidate is, bit for bit, the one that its block of the corpus gives it: no
    rounding makes a candidate lose to itself. Takes O(Q N D + total N + E log E) time for E excluded pairs, and
    beside its inputs and outputs memory for one block of scores, whatever Q and N.

    Args:
      queries: query embeddings [Q, D].
      candidates: candidate embeddings [N, D].
      relevant: rows of the relevant candidates of each query.
      exclusions: rows of the candidates left out for each query; None: nothing. A filter is the exclusion of what it
        does not allow; one that is the same for all queries is a smaller corpus.

    Raises:
      ValueError: the dimensions differ, there is not one list per query, or a row in a list is no candidate's.
    """
    num_queries, num_candidates = scoring.check_embeddings(queries, candidates, relevant, *exclusions)
    if not len(relevant.rows):
        return [Ranks(*np.zeros((3, 0), np.int32)) for _ in exclusions]
    sets = [Lists.empty(num_queries) if lists is None else lists.sets() for lists in exclusions]
    wanted = relevant.lengths > 0
    owners = np.concatenate([lists.owners for lists in sets])
    rows = np.concatenate([lists.rows for lists in sets])
    asked = wanted[owners]
    own, counts, scores = _count(np.asarray(queries), candidates, relevant, owners[asked], rows[asked])
    excluded_scores = np.full(len(rows), np.nan, np.float32)
    excluded_scores[asked] = scores
    left_out = ~(own > -np.inf)
    ends = np.cumsum([len(lists.rows) for lists in sets])[:-1]
    return [
        _subtract(counts, own, relevant, lists, scores, left_out, num_candidates)
        for lists, scores in zip(sets, np.split(excluded_scores, ends), strict=True)
    ]


def rank_scores(scores: Float32[np.ndarray, "Q N"], relevant: Lists, exclusions: Sequence[Lists | None]) -> list[Ranks]:
    """Ranks each query's relevant candidates by given scores, as `rank_each` does by dot products; pure NumPy.

    O(total N + E log E) time for E excluded pairs, in one pass for all exclusions, and O(N) memory.

    Args:
      scores: of each query and candidate, none NaN.
      relevant: rows of the relevant candidates of each query.
      exclusions: rows of the candidates left out for each query; None: nothing.
    """
    own = scores[relevant.owners, relevant.rows]
    counts = np.empty((3, len(own)), np.int32)
    for i, (query, row) in enumerate(zip(relevant.owners.tolist(), relevant.rows.tolist(), strict=True)):
        query_scores = scores[query]
        equal = query_scores == own[i]
        counts[:, i] = np.count_nonzero(query_scores > own[i]), np.count_nonzero(equal[:row]), np.count_nonzero(equal)
    sets = [Lists.empty(len(scores)) if lists is None else lists.sets() for lists in exclusions]
    left_out, num_candidates = ~(own > -np.inf), scores.shape[1]
    return [
        _subtract(counts, own, relevant, lists, scores[lists.owners, lists.rows], left_out, num_candidates)
        for lists in sets
    ]


def _count(queries, candidates, relevant, pair_owners, pair_rows):
    """Counts the whole corpus in blocks.

    Returns the score of each relevant candidate, int32 [3, total] counts of the candidates that score higher, equal
    with a lower row, and equal, and the score of each (owner, row) pair; the pairs are ordered by owner in runs.
    """
    width = 1 if relevant.lengths.max() == 1 else RELEVANT_PER_ROW
    rows_per_query = -(-relevant.lengths // width)
    first_row = np.cumsum(rows_per_query) - rows_per_query
    queries_of = np.repeat(np.arange(len(queries)), rows_per_query)
    places = np.arange(len(relevant.rows)) + np.repeat(first_row * width - relevant.offsets[:-1], relevant.lengths)
    size, block = scoring.block_shape(len(queries_of), len(candidates))
    blocks = scoring.num_blocks(len(candidates), block)
    steps = -(-len(queries_of) // size)
    slots = np.zeros((steps * size, width), np.int32)
    slots.ravel()[places] = relevant.rows
    pair_places = first_row[pair_owners]
    members = Lists.from_pairs(pair_places // size, np.arange(len(pair_rows)), steps)  # the pairs of each step
    capacity = max(scoring.LEAST_PAIRS, scoring.power_of_two(int(members.lengths.max())))
    candidates, results, orders = jnp.asarray(candidates), [], []
    for step in range(steps):  # none is waited for before the last is under way
        rows = slice(step * size, (step + 1) * size)
        in_step = members[step]
        pairs, order = scoring.pairs_by_block(
            pair_places[in_step] - rows.start, pair_rows[in_step], blocks, block, capacity
        )
        padded = scoring.pad_rows(queries[queries_of[rows]], size)
        results.append(count_block(padded, candidates, slots[rows], pairs, block))
        orders.append(in_step[order])
    pair_scores = np.empty(len(pair_rows), np.float32)
    for order, (_, _, scores) in zip(orders, results, strict=True):
        pair_scores[order] = np.asarray(scores)[: len(order)]
    own = np.concatenate([own for own, _, _ in results])
    counts = np.concatenate([counts for _, counts, _ in results], axis=1)
    return own.ravel()[places], counts.reshape(3, -1)[:, places], pair_scores


@functools.partial(jax.jit, static_argnames="size")
def count_block(
    queries: Float[Array, "Q D"],
    candidates: Float[Array, "N D"],
    rows: Int[Array, "Q m"],
    pairs: scoring.Pairs,
    size: int,
) -> tuple[Float[Array, "Q m"], Int[Array, "3 Q m"], Float[Array, "E"]]:
    """Counts the corpus against the scores of `rows`, `size` candidates at a time; the compiled program of `rank`.

    Returns the scores of `rows`, how many candidates are higher, equal and before, and equal, and the pairs' scores.
    """
    if len(candidates) == size:
        scores, columns = scoring.score_block(queries, candidates, jnp.int32(0), size)
        own = jnp.take_along_axis(scores, rows, axis=1)
        pair_scores = _gather(scores, columns, jnp.int32(0), pairs, jnp.zeros(pairs.rows.shape, scores.dtype))
        return own, _compare(scores, columns, jnp.int32(0), own, rows), pair_scores

    def count(state):  # again, with the scores that counting saw, should one of the guessed differ from them by a bit
        seen, counts, pair_scores = _count_corpus(queries, candidates, state[1], rows, pairs, size)
        return jnp.any(_bits(seen) != _bits(state[1])), seen, counts, pair_scores

    counts, pair_scores = jnp.zeros((3, *rows.shape), jnp.int32), jnp.zeros(pairs.rows.shape, queries.dtype)
    guess = _score_columns(queries, candidates, rows, size)
    return jax.lax.while_loop(lambda state: state[0], count, (jnp.array(True), guess, counts, pair_scores))[1:]


def _count_corpus(queries, candidates, own, rows, pairs, size):
    """Counts with `own` [Q, m] as the scores of `rows`; returns also the scores that they and the pairs really had."""

    def add_block(block, state):
        counts, seen, pair_scores = state
        scores, columns = scoring.score_block(queries, candidates, block, size)
        here = rows // size == block
        counts += _compare(scores, columns, block, own, rows)
        own_columns = jnp.clip(rows - columns[0], 0, size - 1)
        seen = jnp.where(here, jnp.take_along_axis(scores, own_columns, axis=1), seen)
        return counts, seen, _gather(scores, columns, block, pairs, pair_scores)

    pair_scores = jnp.zeros(pairs.rows.shape, queries.dtype)
    state = jnp.zeros((3, *rows.shape), jnp.int32), jnp.zeros_like(own), pair_scores
    counts, seen, pair_scores = jax.lax.fori_loop(0, scoring.num_blocks(len(candidates), size), add_block, state)
    return seen, counts, pair_scores


def _score_columns(queries, candidates, rows, size):
    """Returns the scores of `rows` [Q, m], of matrix products that have the shape of a block of the corpus."""
    steps = -(-rows.size // size)
    columns = jnp.pad(rows.ravel(), (0, steps * size - rows.size)).reshape(steps, size)
    scores = jax.lax.map(lambda rows: scoring.dot(queries, candidates[rows]), columns)  # [steps, Q, size]
    places = jnp.arange(rows.size, dtype=jnp.int32).reshape(rows.shape)
    owners = jnp.arange(len(rows), dtype=jnp.int32)[:, None]
    return scores[places // size, owners, places % size]


def _compare(scores, columns, block, own, rows):
    """Counts, for each of `rows` [Q, m], the candidates of the block that are higher, equal and before, and equal.

    Where nothing is equal but a row to itself, none is equal and before.
    """
    start = block * len(columns)
    others, own = scores[:, None, :], own[:, :, None]  # [Q, m, n] when compared
    new, before = (columns >= start)[None, None, :], columns[None, None, :] < rows[:, :, None]
    higher, equal = _count_both(new & ~(others <= own), new & (others == own))
    equal_before, equal = jax.lax.cond(
        jnp.any(equal > (rows // len(columns) == block).astype(jnp.int32)),
        lambda: _count_both(new & before & (others == own), new & (others == own)),
        lambda: [jnp.zeros_like(equal), equal],
    )
    return jnp.stack([higher, equal_before, equal])


def _count_both(first, second):
    """Counts two masks along the last axis at once; one reduction of two values compiles to vector instructions."""

    def add(totals, values):
        return [total + value for total, value in zip(totals, values, strict=True)]

    masks = [mask.astype(jnp.int32) for mask in (first, second)]
    return jax.lax.reduce(masks, [jnp.int32(0), jnp.int32(0)], add, (2,))


def _gather(scores, columns, block, pairs, pair_scores):
    """Writes the scores of the block's pairs to their places in `pair_scores`."""

    def visit(pair_scores, start, owners, rows, real):
        found = scores[owners, jnp.clip(rows - columns[0], 0, len(columns) - 1)]
        found = jnp.where(real, found, jax.lax.dynamic_slice(pair_scores, (start,), found.shape))
        return jax.lax.dynamic_update_slice(pair_scores, found, (start,))

    return scoring.for_pairs_of(block, pairs, visit, pair_scores)


def _bits(scores):
    return jax.lax.bitcast_convert_type(scores, jnp.int32)


def _subtract(counts, own, relevant, excluded, excluded_scores, left_out, num_candidates):
    """Returns the ranks without the candidates of `excluded`, sets whose scores are given."""
    higher, equal_before, equal = counts - np.array([[0], [0], [1]], np.int32)  # a candidate equals itself
    if len(excluded.rows):
        owners = relevant.owners
        left_out = left_out | excluded.contain(owners, relevant.rows)
        by_score = np.sort(encode_by_owner(excluded.owners, excluded_scores))
        keys = encode_by_owner(owners, own)
        last = np.searchsorted(by_score, keys, "right")
        first = last.copy()
        tied = by_score[last - 1] == keys  # where last is 0, by_score[-1] is above the key
        first[tied] = np.searchsorted(by_score, keys[tied], "left")
        higher = higher - (excluded.offsets[owners + 1] - last).astype(np.int32)
        equal = equal - (last - first).astype(np.int32)
        tied = (first < last) & ~left_out
        equal_before = equal_before - _before(tied, first, by_score, relevant.rows, excluded, excluded_scores)
    higher = np.where(left_out, np.int32(num_candidates), higher)
    return Ranks(higher, *(np.where(left_out, np.int32(0), ties) for ties in (equal_before, equal)))


def _before(tied, first, by_score, rows, excluded, excluded_scores) -> Int32[np.ndarray, "total"]:
    """Counts the excluded candidates that tie from place first of `by_score` on and have a lower row, where `tied`."""
    before = np.zeros(len(rows), np.int32)
    if tied.any():
        groups = np.searchsorted(by_score, encode_by_owner(excluded.owners, excluded_scores), "left").astype(np.uint64)
        by_row = np.sort(groups << np.uint64(32) | excluded.rows.astype(np.uint64))
        keys = first[tied].astype(np.uint64) << np.uint64(32) | rows[tied].astype(np.uint64)
        before[tied] = np.searchsorted(by_row, keys, "left") - first[tied]
    return before
