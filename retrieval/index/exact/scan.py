"""Finds the largest inner products, exactly: matrix products select candidates, `np.vecdot` scores these again.

A matrix product rounds a score differently for each shape of its blocks. So it only selects: every candidate whose
product lies within an error margin of the k-th best is scored again by `np.vecdot`, which computes each inner product
by itself. The scores returned are those of `np.vecdot`. No answer, and no tie, depends on the other queries of a batch
or on the block sizes.

Within this file a place is an index into the candidates that are searched, in the order in which they are searched: the
position itself without a subset, else a place of `Gathered`. An owner is the query that a place was found for.
"""

from __future__ import annotations

import threading

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64

from retrieval.common.lists import Lists
from retrieval.index.checks import nothing
from retrieval.index.exact.scoring import best, write_best
from retrieval.index.subset import Gathered, Norms, Subset, lengths_of

_SCORES = 1 << 20  # scores of a block; they stay in the cache while the best are found
_CANDIDATES = 1 << 14  # candidates of a block; times 64 queries they are `_SCORES`
_FEW = 4096  # scores for which chunks do not pay
_CHUNK = 16  # scores of a chunk, whose maximum is compared first
_ALONE = 1 << 18  # multiplications of a product for which OpenBLAS starts no threads
_SMALL = 1 << 22  # multiplications of a product that threads do not make faster
_MIDDLE = 1 << 24  # multiplications of a product that is faster without threads while other searches run
_QUERIES = 256  # queries of a block while other searches run; more where candidates are few
_ALL_QUERIES = 1024  # queries of a block while no other search runs
_ROUNDING = 2.0**-24  # unit roundoff of float32


class _Running:
    """Counts the searches of all threads that are inside a `with` statement of this object."""

    def __init__(self):
        self.number, self._lock = 0, threading.Lock()

    def __enter__(self):
        with self._lock:
            self.number += 1

    def __exit__(self, *_):
        with self._lock:
            self.number -= 1


_RUNNING = _Running()  # searches of several queries, or of more than one block
_LEAST = np.finfo(np.float32).min  # above -inf, the score of an excluded candidate


def exact_top(
    embeddings: Float32[np.ndarray, "n d"],
    queries: Float32[np.ndarray, "q d"],
    k: int,
    norms: Norms,
    excluded: Lists | None = None,
    subset: Subset | None = None,
) -> tuple[Float32[np.ndarray, "q k"], Int32[np.ndarray, "q k"]]:
    """Finds the k candidates of a subset with the largest inner products, without the excluded ones.

    Takes O(q m d) time for m candidates in the subset, and memory for one block of scores. The longest vectors of a
    subset are searched first; vectors too short to be among the best are skipped (Teflioudi et al. 2015, "LEMP").

    Args:
      embeddings: of the corpus, finite.
      queries: finite, and such that all inner products are finite.
      k: at least 1; may exceed the number of candidates.
      norms: of `embeddings`.
      excluded: the positions that each query must not get; None: no exclusions.
      subset: the candidates to search; None: all.

    Returns:
      Inner products and positions, best first; of tied scores the lower position first. Padded with -inf and -1.
    """
    scores, positions = nothing(len(queries), k)
    gathered = None if subset is None else subset.gather(embeddings, norms, _CANDIDATES)
    num_candidates = len(embeddings if gathered is None else gathered.positions)
    if not len(queries) or not num_candidates:
        return scores, positions
    pairs = None if excluded is None else _pairs(excluded, subset, gathered)
    if num_candidates <= k:
        _write_all(embeddings, gathered, queries, pairs, scores, positions)
        return scores, positions
    lengths = lengths_of(queries)
    margins = _margins(lengths, queries.shape[1], norms.longest)
    if len(queries) == 1 and num_candidates <= _CANDIDATES:
        _write_one_query(embeddings, gathered, queries[0], pairs, margins[0], scores[0], positions[0])
        return scores, positions
    with _RUNNING:
        most_queries = _ALL_QUERIES if _RUNNING.number == 1 else _QUERIES
        step = min(max(most_queries, _FEW // num_candidates), max(1, _SCORES // min(num_candidates, _CANDIDATES)))
        for start in range(0, len(queries), step):
            block = slice(start, start + step)
            block_pairs = None if pairs is None else _pairs_between(pairs, start, start + step)
            owners, places = _find_candidates(
                embeddings, gathered, queries[block], k, block_pairs, margins[block], lengths[block]
            )
            vectors, rows = (embeddings, places) if gathered is None else gathered.vectors_of(places)
            found = places if gathered is None else gathered.positions[places]
            write_best(vectors, rows, queries[block], owners, found, scores[block], positions[block])
    return scores, positions


def _pairs(excluded: Lists, subset: Subset | None, gathered: Gathered | None):
    """Returns the excluded candidates as two arrays: owners, ascending, and places; those outside the subset go."""
    owners, places = excluded.owners, excluded.rows.astype(np.int64)
    if subset is None or gathered is None:
        return owners, places
    inside = subset.mask[places]
    ascending = np.searchsorted(subset.positions, places[inside])
    return owners[inside], ascending if gathered.places is None else gathered.places[ascending]


def _pairs_between(pairs, start: int, stop: int):
    """Returns the pairs of the queries from `start` to `stop`, whose owners are then counted from `start`."""
    inside = slice(*np.searchsorted(pairs[0], [start, stop]))
    return pairs[0][inside] - start, pairs[1][inside]


def _margins(lengths: Float32[np.ndarray, " q"], dimension: int, longest: float) -> Float32[np.ndarray, " q"]:
    """Returns for each query how far below the k-th best matrix product a candidate of the true best k can lie.

    Two ways to sum the same d products differ by at most 2 (d + 1) u |query| |vector| with the unit roundoff u (Higham
    2002, "Accuracy and Stability of Numerical Algorithms", section 3.1). The margin is twice that: the k-th best may be
    rounded up, and the candidate rounded down.
    """
    share = np.float32(4.01 * (dimension + 1) * _ROUNDING * longest)  # .01: this product and the norms are rounded too
    return lengths * share + np.float32(1e-37)  # a product of two small numbers may underflow to 0


def _find_candidates(embeddings, gathered, queries, k, pairs, margins, lengths) -> tuple[np.ndarray, np.ndarray]:
    """Returns owners and places of all candidates that may be among the best k of a block of queries."""
    owners, places = [], []
    # The k-th best chunk maximum is at most the k-th best product. A cut `margins` below it keeps all true best k.
    worst = np.full(len(queries), -np.inf, np.float32)
    num_candidates = len(embeddings if gathered is None else gathered.positions)
    active = np.arange(len(queries))
    for start in range(0, num_candidates, _CANDIDATES):
        stop = min(start + _CANDIDATES, num_candidates)
        if gathered is not None and start:
            # Norms fall from here on. By Cauchy-Schwarz no later score exceeds |query| times the norm at `start`, so a
            # query whose k-th best is above that is finished. 1e-4 is far more than the rounding of the norms.
            active = np.flatnonzero(worst - margins <= lengths * (1 + 1e-4) * gathered.norms[start])
            if not len(active):
                break
        rows = slice(None) if len(active) == len(queries) else active  # a slice copies nothing
        vectors = embeddings[start:stop] if gathered is None else gathered.block(start, stop)
        scores = _products(queries[rows], vectors)
        if pairs is not None:
            inside = (pairs[1] >= start) & (pairs[1] < stop) & np.isin(pairs[0], active)
            scores[np.searchsorted(active, pairs[0][inside]), pairs[1][inside] - start] = -np.inf
        maxima = _chunk_maxima(scores, k)
        if k < maxima.shape[1]:
            worst[rows] = np.maximum(worst[rows], np.partition(maxima, -k, axis=1)[:, -k])
        least = np.maximum(worst[rows] - margins[rows], _LEAST)[:, None]
        block_owners, columns = _above(scores, maxima, least, k)
        owners.append(active[block_owners])
        places.append(columns + start)
    return (owners[0], places[0]) if len(owners) == 1 else (np.concatenate(owners), np.concatenate(places))


def _products(queries: Float32[np.ndarray, "q d"], vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "q n"]:
    """Computes all inner products; a small matrix product in pieces for each of which OpenBLAS starts no threads.

    Threads of OpenBLAS wait by spinning: where several searches run at once, that costs more than the product. A piece
    may round otherwise than the whole product. The margins cover that, and `scoring.score` computes what is returned.
    """
    width = _ALONE // max(queries.size, 1)
    most_multiplications = _SMALL if _RUNNING.number == 1 else _MIDDLE
    if queries.size * len(vectors) > most_multiplications or not 8 <= width < len(vectors):
        return queries @ vectors.T
    even = len(vectors) - len(vectors) % width
    scores = np.empty((len(queries), len(vectors)), np.float32)
    pieces = vectors[:even].reshape(-1, width, vectors.shape[1]).transpose(0, 2, 1)
    np.matmul(queries, pieces, out=scores[:, :even].reshape(len(queries), -1, width).transpose(1, 0, 2))
    np.matmul(queries, vectors[even:].T, out=scores[:, even:])
    return scores


def _chunk_maxima(scores: Float32[np.ndarray, "q n"], k: int) -> Float32[np.ndarray, "q _"]:
    """Returns the maximum of each chunk of `_CHUNK` scores; `scores` itself where they are few.

    With m chunks, chunk j holds the columns j, j + m, j + 2 m and so on; the last n % `_CHUNK` columns are in no chunk.
    Maxima of chunks are scores of different candidates, so the k-th best of them is at most the k-th best score.
    """
    num_scores = scores.shape[1]
    if num_scores <= 4 * _CHUNK * k or scores.size <= _FEW:
        return scores
    return scores[:, : num_scores - num_scores % _CHUNK].reshape(len(scores), _CHUNK, -1).max(axis=1)


def _above(scores, maxima, least, k) -> tuple[Int64[np.ndarray, " f"], Int64[np.ndarray, " f"]]:
    """Returns row and column of the scores that reach `least` [q, 1].

    A chunk whose maximum is below `least` holds no score that reaches it, so where scores are many only the other
    chunks are compared, and the columns that are in no chunk.
    """
    num_chunks = maxima.shape[1]
    if maxima is scores or scores.shape[1] <= 16 * _CHUNK * k:
        return _nonzero(scores >= least)
    even = _CHUNK * num_chunks
    owners, chunks = _nonzero(maxima >= least)
    members = chunks[:, None] + np.arange(_CHUNK) * num_chunks  # columns of each chunk that is left
    chunk, member = _nonzero(scores[owners[:, None], members] >= least[owners])
    last_owners, last_columns = _nonzero(scores[:, even:] >= least)
    return np.concatenate([owners[chunk], last_owners]), np.concatenate([members[chunk, member], last_columns + even])


def _nonzero(mask: Bool[np.ndarray, "n m"]) -> tuple[Int64[np.ndarray, " f"], Int64[np.ndarray, " f"]]:
    """Returns row and column of the true entries; faster than `np.nonzero` where they are few."""
    found = np.flatnonzero(mask)
    return (np.zeros_like(found), found) if len(mask) == 1 else np.divmod(found, max(mask.shape[1], 1))


def _write_all(embeddings, gathered, queries, pairs, scores, positions) -> None:
    """Writes the scores and positions of all candidates, of which there are at most k: there is nothing to choose."""
    candidates = np.arange(len(embeddings)) if gathered is None else gathered.positions
    exact = np.vecdot(queries[:, None], embeddings if gathered is None else gathered.block(0, len(candidates)))
    if pairs is not None:
        exact[pairs] = -np.inf
    found = np.where(exact > -np.inf, candidates, -1)
    scores[:, : len(candidates)], positions[:, : len(candidates)] = best(exact, found, len(candidates))


def _write_one_query(embeddings, gathered, query, pairs, margin, scores, positions) -> None:
    """Writes the best k of one query over one block of candidates, in few NumPy calls: they are most of its time."""
    vectors = embeddings if gathered is None else gathered.block(0, len(gathered.positions))
    products = vectors @ query
    if pairs is not None:
        products[pairs[1]] = -np.inf
    k = len(scores)
    least = max(np.partition(products, -k)[-k] - margin, _LEAST)
    places = np.flatnonzero(products >= least)
    exact = np.vecdot(vectors[places], query)
    order = np.lexsort((places, -exact))[:k]
    places = places[order]
    found = places if gathered is None else gathered.positions[places]
    scores[: len(order)], positions[: len(order)] = exact[order], found
