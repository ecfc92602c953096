"""Exact top-k over the full corpus, in blocks of queries and candidates.

The device scores a block of the corpus and computes the maximum of each chunk of candidates. In most blocks, most
chunks hold no candidate that ranks before the k best found so far; the host reads only the other chunks. It encodes
scores and rows as integers whose order is the order of the result (`keys`).
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Int, Int32, UInt64

from retrieval.common.list_length import check_k
from retrieval.common.lists import PADDING_ROW, Lists
from retrieval.ranking import blocks as scoring
from retrieval.ranking.keys import NOTHING, decode, encode
from retrieval.ranking.selection import indices_of_true, merge, select

CHUNK = 32  # candidates per maximum
CHUNKS_AT_A_TIME = 2**11  # chunks gathered at once: 256 KiB, which fit in the cache of the host
LEAST_CHUNKS = 2**8  # smallest number of chunks in a gather on another device; fewer are padded
PENDING = 1 / 4  # unmerged candidates, as a share of the Q k best, beyond which they are merged


class ScoredBlock(NamedTuple):
    """Scores of a block of the corpus.

    Attributes:
      first: row of the first candidate of the block.
      new: row of the first candidate that is not also in the block before.
      chunks: scores in chunks, -inf for a candidate that is excluded or not allowed for the query [Q, C, CHUNK].
      maxima: highest score of each chunk, NaN if the chunk has a NaN [Q, C].
    """

    first: int
    new: int
    chunks: Float[Array, "Q C chunk"]
    maxima: Float[Array, "Q C"]


def top_k(
    queries: Float[Array, "Q D"] | Float32[np.ndarray, "Q D"],
    candidates: Float[Array, "N D"] | Float32[np.ndarray, "N D"],
    k: int,
    excluded: Lists | None = None,
    allowed: Bool[np.ndarray, "*mask"] | Lists | None = None,
) -> tuple[Float32[np.ndarray, "Q k"], Int32[np.ndarray, "Q k"]]:
    """Returns the scores and rows of the k candidates with the highest dot product with each query.

    Scores descend; equal scores are ordered by row; NaN comes first. XLA flushes denormal products (below 1.2e-38) to
    zero, where they tie. If fewer than k candidates are left, the lists are padded with row -1 and score -inf. Takes
    O(Q N D) time. Besides inputs and outputs, the memory is two blocks of scores, whatever Q and N.

    Args:
      queries: query embeddings [Q, D].
      candidates: candidate embeddings [N, D].
      k: length of the lists, 1 to 2**20; may exceed N.
      excluded: rows of the candidates left out for each query; None excludes nothing.
      allowed: the only candidates to choose from: a mask shared by all queries [N], a mask per query [Q, N], or the
        rows of each query; None allows all.

    Raises:
      ValueError: k is out of range, the shapes do not fit, or a list has a row outside [0, N).

    >>> top_k(np.eye(2, dtype=np.float32), np.array([[1., 5.], [3., 5.]], np.float32), 2)[1]
    array([[1, 0],
           [0, 1]], dtype=int32)
    """
    k = check_k(k)
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
    buffers = _buffers(size, num_candidates)
    for start in range(0, num_queries, size):
        members = np.arange(start, min(start + size, num_queries))
        best = _find_best(
            scoring.pad_rows(queries[members], size),
            candidates,
            found,
            excluded.take(members),
            _take_allowed(allowed, members),
            buffers,
        )
        scores[members, :found], rows[members, :found] = (part[: len(members)] for part in decode(best))
    return scores, rows


def _find_best(queries, candidates, k, excluded, allowed, buffers) -> UInt64[np.ndarray, "Q k"]:
    """Returns the keys of each query's k best candidates, best first."""
    best = np.full((len(queries), k), NOTHING)
    # score of the k-th best so far; a later candidate with this score has a higher row and loses the tie
    threshold = np.full(len(queries), -np.inf, np.float32)
    owners, keys, pending = [], [], 0
    for block in _score_blocks(queries, candidates, excluded, allowed, buffers):
        maxima = np.asarray(block.maxima)
        if block.new > 0:
            found = _find_above(threshold, block, maxima)
        elif maxima.shape[1] >= k:
            # k chunks have a candidate that scores at least the k-th highest maximum: nothing below it is needed.
            # Scores equal to it are, hence the next float below as the threshold.
            bound = np.partition(maxima, -k, axis=1)[:, -k]
            found = _find_above(np.nextafter(bound, np.float32(-np.inf)), block, maxima)
        else:
            found = select(np.asarray(block.chunks).reshape(len(best), -1), k)
        owners.append(found[0])
        keys.append(found[1])
        pending += len(found[0])
        if block.new == 0 or pending > PENDING * best.size:
            best = merge(best, np.concatenate(owners), np.concatenate(keys))
            threshold = decode(best.max(axis=1))[0]
            owners, keys, pending = [], [], 0
    if pending:
        best = merge(best, np.concatenate(owners), np.concatenate(keys))
    return np.sort(best, axis=1)


def _find_above(
    threshold: Float32[np.ndarray, "Q"], block: ScoredBlock, maxima: Float32[np.ndarray, "Q C"]
) -> tuple[Int[np.ndarray, "found"], UInt64[np.ndarray, "found"]]:
    """Returns owners and keys of the new candidates of the block with a score above `threshold`, or NaN."""
    above = np.flatnonzero(~(maxima <= threshold[:, None]))  # indices of chunks over all queries; `~ <=` keeps NaN
    found = [(above[:0], np.zeros(0, np.uint64))]
    for start in range(0, len(above), CHUNKS_AT_A_TIME):
        piece = above[start : start + CHUNKS_AT_A_TIME]
        owners, chunk_indices = np.divmod(piece, maxima.shape[1])
        scores = _take_chunks(block.chunks, piece)
        chunk, column = indices_of_true(~(scores <= threshold[owners, None]))
        rows = block.first + chunk_indices[chunk] * scores.shape[1] + column
        new = rows >= block.new
        chunk, column = chunk[new], column[new]
        found.append((owners[chunk], encode(scores[chunk, column], rows[new])))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))


def _take_chunks(
    chunks: Float[Array, "Q C chunk"], indices: Int[np.ndarray, "found"]
) -> Float32[np.ndarray, "found chunk"]:
    """Returns the chunks with the given indices over all queries."""
    if _is_on_host(chunks):  # a gather on the device would wait for the scores of the next block
        return np.take(np.asarray(chunks).reshape(-1, chunks.shape[2]), indices, axis=0)
    padding = max(LEAST_CHUNKS, scoring.power_of_two(len(indices))) - len(indices)  # few shapes, hence few programs
    return np.asarray(_gather_chunks(chunks, np.pad(indices.astype(np.int32), (0, padding))))[: len(indices)]


def _is_on_host(array: Array) -> bool:
    """Returns whether NumPy can read the array without a copy from a device."""
    return all(device.platform == "cpu" for device in array.devices())


@jax.jit
def _gather_chunks(chunks, indices):
    return chunks.reshape(-1, chunks.shape[2])[indices]


def _buffers(num_queries: int, num_candidates: int) -> list[Float[Array, "Q C chunk"]]:
    """Allocates two blocks of scores, reused for all blocks: touching new pages costs as much time as the scores."""
    _, size = scoring.block_shape(num_queries, num_candidates)
    return [jnp.zeros((num_queries, -(-size // CHUNK), CHUNK), jnp.float32) for _ in range(2)]


def _score_blocks(queries, candidates, excluded, allowed, buffers) -> Iterator[ScoredBlock]:
    """Yields the scores of each block of the corpus.

    The device computes the next block while the host reads this one. Each block takes its memory from `buffers` and
    returns it once the caller asks for the next block; NumPy views of the block must be gone by then, or XLA copies.
    """
    _, size = scoring.block_shape(len(queries), len(candidates))
    blocks = scoring.num_blocks(len(candidates), size)
    capacity = max(scoring.LEAST_PAIRS, scoring.power_of_two(len(excluded.rows)))
    pairs, _ = scoring.pairs_by_block(excluded.owners, excluded.rows, blocks, size, capacity)
    last = None
    for block in range(blocks):
        first = min(block * size, len(candidates) - size)
        mask = _mask(allowed, len(queries), first, size)
        scores = _score_block(buffers.pop(), queries, candidates, pairs, mask, np.int32(block), size, CHUNK)
        if last is not None:
            yield last
            buffers.append(last.chunks)
        last = ScoredBlock(first, block * size, *scores)
    yield last
    buffers.append(last.chunks)


def _take_allowed(allowed, queries: Int[np.ndarray, "q"]):
    """Returns the part of `allowed` for the given queries, in the same form."""
    if isinstance(allowed, Lists):
        return allowed.take(queries)
    return allowed[queries] if allowed is not None and allowed.ndim == 2 else allowed


def _mask(allowed, num_queries, first, size) -> Bool[np.ndarray, "q n"] | None:
    """Returns the mask of `allowed` for the `size` candidates from row `first` on; one row if all queries share it."""
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
    """Returns the scores of a block in chunks, in the memory of `buffer`, and the maximum of each chunk."""
    scores, rows = scoring.score_block(queries, candidates, block, size)

    def leave_out(scores, start, owners, excluded, real):
        return scores.at[jnp.where(real, owners, len(queries)), excluded - rows[0]].set(-jnp.inf, mode="drop")

    if allowed is not None:
        scores = jnp.where(allowed, scores, -jnp.inf)
    scores = scoring.for_pairs_of(block, pairs, leave_out, scores)
    padded = jnp.pad(scores, ((0, 0), (0, -size % chunk)), constant_values=-jnp.inf)
    chunks = padded.reshape(len(queries), -1, chunk)
    return chunks, jnp.max(chunks, axis=2)
