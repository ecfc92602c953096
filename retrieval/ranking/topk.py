"""Exact top-k over the full corpus, in blocks of queries and candidates.

A block of the corpus is scored on the device and reduced to the maxima of chunks of candidates. Most chunks of most
blocks hold nothing that comes before the k best found so far; only the others are looked at, on the host, where scores
and rows are joined in integers whose order is that of the result.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, UInt64

from retrieval.common.lists import PADDING_ROW, Lists
from retrieval.ranking import blocks as scoring

CHUNK = 64  # candidates of which only the best is looked at first
LEAST_CHUNKS, MOST_CHUNKS = 2**9, 2**14  # that are looked at in one go; powers of two between, so that few compile
NOTHING = np.uint64(2**64 - 1)  # comes after every candidate


def top_k(
    queries: Float[Array, "Q D"] | Float32[np.ndarray, "Q D"],
    candidates: Float[Array, "N D"] | Float32[np.ndarray, "N D"],
    k: int,
    excluded: Lists | None = None,
    allowed: Bool[np.ndarray, "*mask"] | Lists | None = None,
) -> tuple[Float32[np.ndarray, "Q k"], Int32[np.ndarray, "Q k"]]:
    """Returns the scores and rows of the k candidates with the highest dot product with each query.

    Scores descend; equal scores stand in the order of their rows; NaN comes before all. Where fewer than k candidates
    are left, the row is -1 and the score -inf. Takes O(Q N D) time, and beside its inputs and outputs memory for two
    blocks of scores, whatever Q and N.

    Args:
      queries: query embeddings [Q, D].
      candidates: candidate embeddings [N, D].
      k: how many to return, at least 1; may exceed N.
      excluded: rows of the candidates that each query must not get.
      allowed: the only candidates to choose from: a mask for all queries [N] or for each [Q, N], or the rows of each
        query; None: all.

    Raises:
      ValueError: k is below 1, the shapes do not fit, or a row in a list is no candidate's.

    >>> top_k(np.eye(2, dtype=np.float32), np.array([[1., 5.], [3., 5.]], np.float32), 2)[1]
    array([[1, 0],
           [0, 1]], dtype=int32)
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if allowed is not None and not isinstance(allowed, Lists):
        allowed = np.asarray(allowed, bool)
    lists = [lists for lists in (excluded, allowed) if isinstance(lists, Lists)]
    num_queries, num_candidates = scoring.check_embeddings(queries, candidates, *lists)
    if isinstance(allowed, np.ndarray) and allowed.shape not in ((num_candidates,), (num_queries, num_candidates)):
        raise ValueError(
            f"allowed must be [{num_candidates}] or [{num_queries}, {num_candidates}], got {allowed.shape}"
        )
    scores = np.full((num_queries, k), -np.inf, np.float32)
    rows = np.full((num_queries, k), PADDING_ROW, np.int32)
    found = min(k, num_candidates)
    if found == 0:
        return scores, rows
    excluded = Lists.empty(num_queries) if excluded is None else excluded
    queries, candidates = np.asarray(queries), jnp.asarray(candidates)
    size, _ = scoring.block_shape(num_queries, num_candidates)
    for start in range(0, num_queries, size):
        block = slice(start, min(start + size, num_queries))
        mine = np.arange(block.start, block.stop)
        own = allowed
        if isinstance(allowed, Lists):
            own = allowed.take(mine)
        elif allowed is not None and allowed.ndim == 2:
            own = allowed[block]
        best = _best_of(scoring.pad_rows(queries[block], size), candidates, found, excluded.take(mine), own)
        scores[block, :found], rows[block, :found] = (x[: len(mine)] for x in _decode(best))
    return scores, rows


def top_k_of_scores(
    scores: Float32[np.ndarray, "Q N"], k: int, exclusions: Sequence[Lists | None]
) -> list[Int32[np.ndarray, "Q k"]]:
    """Returns the rows of the k candidates with the highest scores, as `top_k` orders them, for each exclusion.

    Pure NumPy. One selection, of k and as many as are excluded from the longest of the lists, serves all of them:
    O(Q N) time for it, and memory for `scores` once more.

    Args:
      scores: of each query and candidate.
      k: how many to return, at least 1; may exceed N.
      exclusions: rows of the candidates left out for each query; None: nothing.
    """
    sets = [Lists.empty(len(scores)) if lists is None else lists.sets() for lists in exclusions]
    enough = k + max((int(lists.lengths.max(initial=0)) for lists in sets), default=0)
    best = _merge(np.full((len(scores), enough), NOTHING), *_best_of_all(scores, enough))
    rows = _decode(np.sort(best, axis=1))[1]
    owners = np.repeat(np.arange(len(scores)), enough)
    results = []
    for lists in sets:
        left_out = lists.contain(owners, rows.ravel()).reshape(rows.shape)
        first = np.argsort(left_out, axis=1, kind="stable")[:, :k]  # what is kept, in its order, is before the rest
        kept = ~np.take_along_axis(left_out, first, axis=1)
        results.append(np.where(kept, np.take_along_axis(rows, first, axis=1), np.int32(PADDING_ROW)))
    return results


def _best_of(queries, candidates, k, excluded, allowed) -> UInt64[np.ndarray, "Q k"]:
    """Returns the keys of each query's k best candidates, the best first."""
    best = np.full((len(queries), k), NOTHING)
    worst = np.full(len(queries), -np.inf, np.float32)  # what a candidate must exceed: the score of the last of them
    owners, keys, pending = [], [], 0
    for first, new, chunks, maxima in _scored(queries, candidates, excluded, allowed):
        if new == 0:
            best = _merge(best, *_best_of_all(np.asarray(chunks).reshape(len(best), -1), k))
            worst = _decode(best.max(axis=1))[0]
            continue
        found = _candidates_above(worst, first, new, chunks, np.asarray(maxima))
        owners.append(found[0])
        keys.append(found[1])
        pending += len(found[0])
        if pending > best.size // 2:
            best = _merge(best, np.concatenate(owners), np.concatenate(keys))
            worst = _decode(best.max(axis=1))[0]
            owners, keys, pending = [], [], 0
    if pending:
        best = _merge(best, np.concatenate(owners), np.concatenate(keys))
    return np.sort(best, axis=1)


def _scored(queries, candidates, excluded, allowed) -> Iterator[tuple[int, int, Array, Array]]:
    """Yields of each block of the corpus its first row and its first new one, scores in chunks, and their maxima.

    The next block is under way on the device while the host looks at this one.
    """
    _, size = scoring.block_shape(len(queries), len(candidates))
    blocks = scoring.num_blocks(len(candidates), size)
    capacity = max(scoring.LEAST_PAIRS, scoring.power_of_two(len(excluded.rows)))
    pairs, _ = scoring.pairs_by_block(excluded.owners, excluded.rows, blocks, size, capacity)
    last, shape = None, (len(queries), -(-size // CHUNK), CHUNK)
    buffers = [jnp.zeros(shape, jnp.float32) for _ in range(2)]  # written again: fresh pages cost as much as the scores
    for block in range(blocks):
        first = min(block * size, len(candidates) - size)
        mask = _mask(allowed, len(queries), first, size)
        scored = (
            first,
            block * size,
            *_score_block(buffers.pop(), queries, candidates, pairs, mask, np.int32(block), size, CHUNK),
        )
        if last is not None:
            yield last
            buffers.append(last[2])
        last = scored
    yield last


def _mask(allowed, num_queries, first, size) -> Bool[np.ndarray, "q n"] | None:
    """Returns which of the candidates from `first` on each query may get; one row if that is the same for all."""
    if allowed is None:
        return None
    if isinstance(allowed, Lists):
        mask = np.zeros((num_queries, size), bool)
        inside = (first <= allowed.rows) & (allowed.rows < first + size)
        mask[allowed.owners[inside], allowed.rows[inside] - first] = True
        return mask
    if allowed.ndim == 1:
        return allowed[None, first : first + size]
    return np.pad(allowed[:, first : first + size], ((0, num_queries - len(allowed)), (0, 0)))


@functools.partial(jax.jit, static_argnames=("size", "chunk"), donate_argnums=0, keep_unused=True)
def _score_block(buffer, queries, candidates, pairs, allowed, block, size, chunk):
    scores, rows = scoring.score_block(queries, candidates, block, size)

    def leave_out(scores, start, owners, excluded, real):
        return scores.at[jnp.where(real, owners, len(queries)), excluded - rows[0]].set(-jnp.inf, mode="drop")

    if allowed is not None:
        scores = jnp.where(allowed, scores, -jnp.inf)
    scores = scoring.for_pairs_of(block, pairs, leave_out, scores)
    padded = jnp.pad(scores, ((0, 0), (0, -size % chunk)), constant_values=-jnp.inf)
    chunks = padded.reshape(len(queries), -1, chunk)
    return chunks, jnp.max(chunks, axis=2)


@jax.jit
def _take_chunks(chunks, owners, places):
    return chunks[owners, places]


def _candidates_above(
    worst: Float32[np.ndarray, "Q"], first: int, new: int, chunks, maxima: Float32[np.ndarray, "Q C"]
) -> tuple[Int[np.ndarray, "found"], UInt64[np.ndarray, "found"]]:
    """Returns owners and keys of the block's candidates above `worst`, those with rows from `new` on."""
    owners, places = _places(~(maxima <= worst[:, None]))
    found = [(owners[:0], np.zeros(0, np.uint64))]
    for start in range(0, len(owners), MOST_CHUNKS):
        of_piece, at = (x[start : start + MOST_CHUNKS] for x in (owners, places))
        padding = (0, max(LEAST_CHUNKS, scoring.power_of_two(len(at))) - len(at))
        scores = np.asarray(_take_chunks(chunks, *(np.pad(x.astype(np.int32), padding) for x in (of_piece, at))))
        scores = scores[: len(at)]
        chunk, column = _places(~(scores <= worst[of_piece, None]))
        rows = first + at[chunk] * chunks.shape[2] + column
        chunk, column, rows = (x[rows >= new] for x in (chunk, column, rows))
        found.append((of_piece[chunk], _keys(scores[chunk, column], rows)))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def _places(mask: Bool[np.ndarray, "n m"]) -> tuple[Int[np.ndarray, "found"], Int[np.ndarray, "found"]]:
    """Returns row and column of what is true; where little is, faster than `np.nonzero`."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])


def _best_of_all(
    scores: Float32[np.ndarray, "Q n"], k: int
) -> tuple[Int[np.ndarray, "found"], UInt64[np.ndarray, "found"]]:
    """Returns owners and keys of the k highest scores of each query, and of those equal to the last of them."""
    least = np.full((len(scores), 1), -np.inf, np.float32)
    if k < scores.shape[1]:
        least = np.partition(scores, -k, axis=1)[:, -k, None]  # NaN last, as in the order of keys
    owners, rows = _places(~(scores < least) & (scores != -np.inf))
    return owners, _keys(scores[owners, rows], rows)


def _keys(scores: Float32[np.ndarray, "n"], rows: Int[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
    """Returns integers that are ordered as the result is: by score, descending, then by row."""
    return (~scoring.ordered(scores)).astype(np.uint64) << np.uint64(32) | rows.astype(np.uint64)


def _merge(
    best: UInt64[np.ndarray, "Q k"], owners: Int[np.ndarray, "found"], keys: UInt64[np.ndarray, "found"]
) -> UInt64[np.ndarray, "Q k"]:
    """Returns the k lowest keys of each query, in any order, when those found are added."""
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=len(best))
    starts = np.cumsum(counts) - counts
    k = best.shape[1]
    joined = np.full((len(best), k + counts.max(initial=0)), NOTHING)
    joined[:, :k] = best
    joined[owners[order], k + np.arange(len(owners)) - starts[owners[order]]] = keys[order]
    return np.partition(joined, k - 1, axis=1)[:, :k]


def _decode(keys: UInt64[np.ndarray, "*shape"]) -> tuple[Float32[np.ndarray, "*shape"], Int32[np.ndarray, "*shape"]]:
    """Returns the scores and rows that the keys were made of."""
    nothing = keys == NOTHING
    scores = scoring.unordered(~(keys >> np.uint64(32)).astype(np.uint32))
    rows = (keys & np.uint64(2**32 - 1)).astype(np.uint32).view(np.int32)
    return np.where(nothing, np.float32(-np.inf), scores), np.where(nothing, np.int32(PADDING_ROW), rows)
