"""Computes exact ranks of relevant candidates in the full corpus, by counting instead of sorting.

The scores of a block of queries and candidates are compared with those of the relevant candidates while they are in
the cache; no scores of the corpus are sorted or stored. Excluded candidates are counted with the others and
subtracted afterwards, so that ranks with and without an exclusion come from one pass over the scores.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Float64, Int, Int32

from retrieval.common.lists import Lists
from retrieval.ranking import blocks as scoring
from retrieval.ranking.keys import encode_by_owner

RELEVANT_PER_ROW = 16  # a query with more relevant candidates takes several rows of a block
MOST_PASSES = 4  # one pass is enough, or two after a wrong guess, if equal products round equally


class Ranks(NamedTuple):
    """Counts of the candidates ahead of each relevant candidate, in the order of `Lists.rows`; each int32 [total].

    The properties derive from the counts the rank (0 is best) under each policy for equal scores.

    Attributes:
      higher: number of candidates with a strictly higher score, or NaN. It is N, the whole corpus, if the relevant
        candidate is excluded, or if its score is NaN or -inf.
      equal_before: number of other candidates with an equal score and a lower row.
      equal: number of other candidates with an equal score.
    """

    higher: Int32[np.ndarray, "total"]
    equal_before: Int32[np.ndarray, "total"]
    equal: Int32[np.ndarray, "total"]

    @property
    def ordinal(self) -> Int32[np.ndarray, "total"]:
        """Rank in the list that `top_k` returns: equal scores are ordered by row."""
        return self.higher + self.equal_before

    @property
    def optimistic(self) -> Int32[np.ndarray, "total"]:
        """Best rank over all orders of equal scores; the policy of TensorFlow Recommenders."""
        return self.higher

    @property
    def pessimistic(self) -> Int32[np.ndarray, "total"]:
        """Worst rank over all orders of equal scores."""
        return self.higher + self.equal

    @property
    def mean(self) -> Float64[np.ndarray, "total"]:
        """Mean rank over all orders of equal scores."""
        return self.higher + self.equal / 2


def rank(
    queries: Float[Array, "Q D"] | Float32[np.ndarray, "Q D"],
    candidates: Float[Array, "N D"] | Float32[np.ndarray, "N D"],
    relevant: Lists,
    excluded: Lists | None = None,
) -> Ranks:
    """Ranks each query's relevant candidates among all candidates that are not excluded for it.

    Calls `rank_each` with one exclusion, whose docstring describes arguments and errors.
    """
    return rank_each(queries, candidates, relevant, [excluded])[0]


def rank_each(
    queries: Float[Array, "Q D"] | Float32[np.ndarray, "Q D"],
    candidates: Float[Array, "N D"] | Float32[np.ndarray, "N D"],
    relevant: Lists,
    exclusions: Sequence[Lists | None],
) -> list[Ranks]:
    """Ranks each query's relevant candidates, once per exclusion, in one pass over the scores.

    The score of a relevant or excluded candidate equals, bit for bit, its score in its block of the corpus: rounding
    never ranks a candidate behind itself. Takes O(Q N D + total N + E log E) time for E excluded pairs. Besides inputs
    and outputs, the memory is one block of scores, whatever Q and N.

    Args:
      queries: query embeddings [Q, D].
      candidates: candidate embeddings [N, D].
      relevant: rows of the relevant candidates of each query.
      exclusions: for each exclusion, rows of the candidates left out for each query; None excludes nothing. To
        filter, exclude the candidates that the filter rejects; for a filter shared by all queries, pass a smaller
        corpus.

    Returns:
      Ranks under each exclusion.

    Raises:
      ValueError: the dimensions differ, the number of lists is not the number of queries, or a list has a row outside
        [0, N).
      FloatingPointError: the device gives the same product another value in each pass, so that no rank is exact.
    """
    num_queries, num_candidates = scoring.check_embeddings(queries, candidates, relevant, *exclusions)
    if not len(relevant.rows):
        return [Ranks(*np.zeros((3, 0), np.int32)) for _ in exclusions]
    sets = [Lists.empty(num_queries) if lists is None else lists.sets() for lists in exclusions]
    owners = np.concatenate([lists.owners for lists in sets])
    rows = np.concatenate([lists.rows for lists in sets])
    needed = (relevant.lengths > 0)[owners]  # the exclusions of a query without relevant candidates change no rank
    relevant_scores, counts, scores = _count(np.asarray(queries), candidates, relevant, owners[needed], rows[needed])
    excluded_scores = np.full(len(rows), np.nan, np.float32)
    excluded_scores[needed] = scores
    left_out = ~(relevant_scores > -np.inf)  # true for NaN too, which compares false
    ends = np.cumsum([len(lists.rows) for lists in sets])[:-1]
    return [
        _subtract(counts, relevant_scores, relevant, lists, scores, left_out, num_candidates)
        for lists, scores in zip(sets, np.split(excluded_scores, ends), strict=True)
    ]


def rank_scores(scores: Float32[np.ndarray, "Q N"], relevant: Lists, exclusions: Sequence[Lists | None]) -> list[Ranks]:
    """Ranks each query's relevant candidates by given scores, as `rank_each` does by dot products; pure NumPy.

    Takes O(total N + E log E) time for E excluded pairs, in one pass for all exclusions, and O(N) memory.

    Args:
      scores: score of each query and candidate [Q, N], without NaN.
      relevant: rows of the relevant candidates of each query.
      exclusions: for each exclusion, rows of the candidates left out for each query; None excludes nothing.
    """
    relevant_scores = scores[relevant.owners, relevant.rows]
    counts = np.empty((3, len(relevant_scores)), np.int32)
    for i, (query, row) in enumerate(zip(relevant.owners.tolist(), relevant.rows.tolist(), strict=True)):
        query_scores = scores[query]
        equal = query_scores == relevant_scores[i]
        counts[:, i] = (
            np.count_nonzero(query_scores > relevant_scores[i]),
            np.count_nonzero(equal[:row]),
            np.count_nonzero(equal),
        )
    sets = [Lists.empty(len(scores)) if lists is None else lists.sets() for lists in exclusions]
    left_out, num_candidates = ~(relevant_scores > -np.inf), scores.shape[1]
    return [
        _subtract(counts, relevant_scores, relevant, lists, scores[lists.owners, lists.rows], left_out, num_candidates)
        for lists in sets
    ]


def _count(queries, candidates, relevant, pair_owners, pair_rows):
    """Counts the whole corpus in blocks, for each relevant candidate.

    The pairs must come in runs of ascending owners, one run per exclusion.

    Returns:
      The score of each relevant candidate [total]; the numbers of candidates that score higher, that score equal and
      have a lower row, and that score equal, int32 [3, total]; and the score of each (owner, row) pair.
    """
    # A block has `width` slots per row. Queries with more relevant candidates take several rows, so that one query with
    # a thousand of them does not pad every other query to a thousand slots.
    width = 1 if relevant.lengths.max() == 1 else RELEVANT_PER_ROW
    rows_per_query = -(-relevant.lengths // width)
    first_row = np.cumsum(rows_per_query) - rows_per_query
    row_queries = np.repeat(np.arange(len(queries)), rows_per_query)
    slot_indices = np.arange(len(relevant.rows)) + np.repeat(
        first_row * width - relevant.offsets[:-1], relevant.lengths
    )
    size, block = scoring.block_shape(len(row_queries), len(candidates))
    blocks = scoring.num_blocks(len(candidates), block)
    steps = -(-len(row_queries) // size)
    slots = np.zeros((steps * size, width), np.int32)
    slots.ravel()[slot_indices] = relevant.rows
    pair_block_rows = first_row[pair_owners]  # a query's pairs are scored once, with its first row
    members = Lists.from_pairs(pair_block_rows // size, np.arange(len(pair_rows)), steps)  # the pairs of each step
    capacity = max(scoring.LEAST_PAIRS, scoring.power_of_two(int(members.lengths.max())))
    candidates, results, orders = jnp.asarray(candidates), [], []
    for step in range(steps):  # dispatched asynchronously: results are read only after the last dispatch
        rows = slice(step * size, (step + 1) * size)
        in_step = members[step]
        pairs, order = scoring.pairs_by_block(
            pair_block_rows[in_step] - rows.start, pair_rows[in_step], blocks, block, capacity
        )
        padded = scoring.pad_rows(queries[row_queries[rows]], size)
        results.append(count_block(padded, candidates, slots[rows], pairs, block))
        orders.append(in_step[order])
    if any(bool(unsettled) for *_, unsettled in results):
        raise FloatingPointError(
            f"the scores of the same embeddings differ in each of {MOST_PASSES} passes over the corpus, so that ranks "
            "are not exact; set XLA_FLAGS=--xla_gpu_deterministic_ops=true"
        )
    pair_scores = np.empty(len(pair_rows), np.float32)
    for order, (_, _, scores, _) in zip(orders, results, strict=True):
        pair_scores[order] = np.asarray(scores)[: len(order)]
    relevant_scores = np.concatenate([relevant_scores for relevant_scores, *_ in results])
    counts = np.concatenate([counts for _, counts, *_ in results], axis=1)
    return relevant_scores.ravel()[slot_indices], counts.reshape(3, -1)[:, slot_indices], pair_scores


@functools.partial(jax.jit, static_argnames="size")
def count_block(
    queries: Float[Array, "Q D"],
    candidates: Float[Array, "N D"],
    rows: Int[Array, "Q m"],
    pairs: scoring.Pairs,
    size: int,
) -> tuple[Float[Array, "Q m"], Int[Array, "3 Q m"], Float[Array, "E"], Bool[Array, ""]]:
    """Counts the candidates ahead of `rows`, `size` candidates at a time; the compiled program of `rank`.

    Returns:
      The scores of `rows`; the numbers of candidates that score higher, that score equal and have a lower row, and
      that score equal; the scores of the pairs; and whether the scores of `rows` still differ after `MOST_PASSES`.
    """
    if len(candidates) == size:
        scores, columns = scoring.score_block(queries, candidates, jnp.int32(0), size)
        relevant_scores = jnp.take_along_axis(scores, rows, axis=1)
        pair_scores = _gather(scores, columns, jnp.int32(0), pairs, jnp.zeros(pairs.rows.shape, scores.dtype))
        counts = _compare(scores, columns, jnp.int32(0), relevant_scores, rows)
        return relevant_scores, counts, pair_scores, jnp.array(False)

    # The relevant scores are needed before their blocks are reached, so they are guessed first. Matrix products of
    # another shape may round differently: if a bit differs from the score in the block, count again with the latter.
    def count(state):
        passes, _, guess, _, _ = state
        block_scores, counts, pair_scores = _count_corpus(queries, candidates, guess, rows, pairs, size)
        return passes + 1, jnp.any(_bits(block_scores) != _bits(guess)), block_scores, counts, pair_scores

    def is_unsettled(state):
        return state[1] & (state[0] < MOST_PASSES)

    counts, pair_scores = jnp.zeros((3, *rows.shape), jnp.int32), jnp.zeros(pairs.rows.shape, queries.dtype)
    guess = _score_columns(queries, candidates, rows, size)
    state = jnp.int32(0), jnp.array(True), guess, counts, pair_scores
    _, unsettled, *results = jax.lax.while_loop(is_unsettled, count, state)
    return *results, unsettled


def _count_corpus(queries, candidates, relevant_scores, rows, pairs, size):
    """Counts the corpus once, with `relevant_scores` [Q, m] as the scores of `rows`.

    Returns:
      The scores that `rows` have in their blocks [Q, m], the counts [3, Q, m] and the scores of the pairs [E].
    """

    def add_block(block, state):
        counts, block_scores, pair_scores = state
        scores, columns = scoring.score_block(queries, candidates, block, size)
        in_block = rows // size == block
        counts += _compare(scores, columns, block, relevant_scores, rows)
        relevant_columns = jnp.clip(rows - columns[0], 0, size - 1)
        block_scores = jnp.where(in_block, jnp.take_along_axis(scores, relevant_columns, axis=1), block_scores)
        return counts, block_scores, _gather(scores, columns, block, pairs, pair_scores)

    pair_scores = jnp.zeros(pairs.rows.shape, queries.dtype)
    state = jnp.zeros((3, *rows.shape), jnp.int32), jnp.zeros_like(relevant_scores), pair_scores
    counts, block_scores, pair_scores = jax.lax.fori_loop(
        0, scoring.num_blocks(len(candidates), size), add_block, state
    )
    return block_scores, counts, pair_scores


def _score_columns(queries, candidates, rows, size):
    """Returns the scores of `rows` [Q, m], from matrix products of the shape of a block, so that they round alike."""
    steps = -(-rows.size // size)
    columns = jnp.pad(rows.ravel(), (0, steps * size - rows.size)).reshape(steps, size)
    scores = jax.lax.map(lambda rows: scoring.dot(queries, candidates[rows]), columns)  # [steps, Q, size]
    indices = jnp.arange(rows.size, dtype=jnp.int32).reshape(rows.shape)
    owners = jnp.arange(len(rows), dtype=jnp.int32)[:, None]
    return scores[indices // size, owners, indices % size]


def _compare(scores, columns, block, relevant_scores, rows):
    """Counts the candidates of a block that score higher, equal with a lower row, and equal, for each of `rows` [Q, m].

    Ties are rare: the count of ties with a lower row is skipped if every row ties only with itself in this block.
    """
    start = block * len(columns)
    others, relevant_scores = scores[:, None, :], relevant_scores[:, :, None]  # [Q, m, n] when compared
    # the last block overlaps the one before: only columns from `start` on are new and may be counted
    new, before = (columns >= start)[None, None, :], columns[None, None, :] < rows[:, :, None]
    # not `others > relevant_scores`: a NaN score must count as higher
    higher, equal = _count_both(new & ~(others <= relevant_scores), new & (others == relevant_scores))
    equal_before, equal = jax.lax.cond(
        jnp.any(equal > (rows // len(columns) == block).astype(jnp.int32)),
        lambda: _count_both(new & before & (others == relevant_scores), new & (others == relevant_scores)),
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
    """Writes the scores of the pairs of a block to the indices of the pairs in `pair_scores`."""

    def visit(pair_scores, start, owners, rows, real):
        found = scores[owners, jnp.clip(rows - columns[0], 0, len(columns) - 1)]
        found = jnp.where(real, found, jax.lax.dynamic_slice(pair_scores, (start,), found.shape))
        return jax.lax.dynamic_update_slice(pair_scores, found, (start,))

    return scoring.for_pairs_of(block, pairs, visit, pair_scores)


def _bits(scores):
    """Returns the bits of scores as integers: NaN equals itself bitwise, so that recounting ends."""
    return jax.lax.bitcast_convert_type(scores, jnp.int32)


def _subtract(counts, relevant_scores, relevant, excluded, excluded_scores, left_out, num_candidates):
    """Returns the ranks after removing from the counts the candidates of `excluded`, sets with the given scores."""
    higher, equal_before, equal = counts - np.array([[0], [0], [1]], np.int32)  # a candidate equals itself
    if len(excluded.rows):
        owners = relevant.owners
        left_out = left_out | excluded.contain(owners, relevant.rows)
        # A key holds owner and score and sorts by both: one search over all queries finds, in the run of the owner,
        # the excluded candidates that score lower, in [.., first), equal, [first, last), and higher, [last, ..).
        by_score = np.sort(encode_by_owner(excluded.owners, excluded_scores))
        keys = encode_by_owner(owners, relevant_scores)
        last = np.searchsorted(by_score, keys, "right")
        first = last.copy()
        tied = by_score[last - 1] == keys  # if last is 0, by_score[-1] is above the key: no tie
        first[tied] = np.searchsorted(by_score, keys[tied], "left")
        higher = higher - (excluded.offsets[owners + 1] - last).astype(np.int32)
        equal = equal - (last - first).astype(np.int32)
        tied = (first < last) & ~left_out
        equal_before = equal_before - _before(tied, first, by_score, relevant.rows, excluded, excluded_scores)
    higher = np.where(left_out, np.int32(num_candidates), higher)
    return Ranks(higher, *(np.where(left_out, np.int32(0), ties) for ties in (equal_before, equal)))


def _before(tied, first, by_score, rows, excluded, excluded_scores) -> Int32[np.ndarray, "total"]:
    """Counts the excluded candidates that tie and have a lower row, for each relevant candidate marked by `tied`.

    `first` is the index in `by_score` of the first excluded candidate that ties with each relevant candidate.
    """
    before = np.zeros(len(rows), np.int32)
    if tied.any():
        # All excluded candidates of one tie share its first index. Sorted by (first index, row), with the index in the
        # upper 32 bits, each tie keeps its range, and a search for the relevant row counts the lower rows in it.
        groups = np.searchsorted(by_score, encode_by_owner(excluded.owners, excluded_scores), "left").astype(np.uint64)
        by_row = np.sort(groups << np.uint64(32) | excluded.rows.astype(np.uint64))
        keys = first[tied].astype(np.uint64) << np.uint64(32) | rows[tied].astype(np.uint64)
        before[tied] = np.searchsorted(by_row, keys, "left") - first[tied]
    return before
