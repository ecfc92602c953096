"""Exact maximum-inner-product search in NumPy: matrix products in blocks, and the plain inner product in doubt.

A matrix product rounds each score as its blocks fall; the scores returned are those of `np.vecdot`, which takes every
product by itself. So no answer, and no tie, depends on the other queries of a batch or on the block sizes: what a
matrix product leaves in doubt, by its error bound, is scored again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Int64

from retrieval.common.lists import Lists
from retrieval.index.checks import nothing
from retrieval.index.subset import Gathered, Norms, Subset, lengths_of

_SCORES = 1 << 20  # of a block; they stay in the cache while the best are found
_CANDIDATES = 1 << 14  # of a block, for each of 64 queries
_FEW = 4096  # scores that are not looked at in chunks
_CHUNK = 16  # candidates of which the best is looked at first
_ALONE = 1 << 18  # multiplications of a product for which OpenBLAS starts no threads
_SMALL = 1 << 22  # of a product that is not worth them
_MIDDLE = 1 << 24  # of one that is faster without them where others search at the same time
_QUERIES, _ALL_QUERIES = 256, 1024  # of a block, more where candidates are few; where no other search runs
_GATHERED = 1 << 16  # numbers gathered at a time
_ROUNDING = 2.0**-24


class _Running:
    """Counts the searches that go on in a with statement of it, in any thread."""

    def __init__(self):
        self.number, self._lock = 0, threading.Lock()

    def __enter__(self):
        with self._lock:
            self.number += 1

    def __exit__(self, *_):
        with self._lock:
            self.number -= 1


_RUNNING = _Running()  # searches of batches
LEAST = np.finfo(np.float32).min  # above the score of what is excluded


def exact_top(
    embeddings: Float32[np.ndarray, "n d"],
    queries: Float32[np.ndarray, "q d"],
    k: int,
    norms: Norms,
    excluded: Lists | None = None,
    subset: Subset | None = None,
) -> tuple[Float32[np.ndarray, "q k"], Int32[np.ndarray, "q k"]]:
    """Returns scores and positions of the best k of the subset that are not excluded, padded with -inf and -1.

    Takes O(q m d) time for m candidates in the subset and memory for one block of scores. Of a subset the longest
    vectors come first, and those too short to be among the best are not looked at (Teflioudi et al. 2015, "LEMP").
    Arguments are finite and fit; `norms` are those of the embeddings.
    """
    scores, positions = nothing(len(queries), k)
    part = None if subset is None else subset.gather(embeddings, norms, _CANDIDATES)
    size = len(embeddings if part is None else part.positions)
    if not len(queries) or not size:
        return scores, positions
    pairs = None if excluded is None else _pairs(excluded, subset, part)
    if size <= k:
        _place_all(embeddings, part, queries, pairs, scores, positions)
        return scores, positions
    lengths = lengths_of(queries)
    doubts = _doubts(lengths, queries.shape[1], norms.longest)
    if len(queries) == 1 and size <= _CANDIDATES:
        _place_one(embeddings, part, queries[0], pairs, doubts[0], scores[0], positions[0])
        return scores, positions
    with _RUNNING:
        most = _ALL_QUERIES if _RUNNING.number == 1 else _QUERIES
        step = min(max(most, _FEW // size), max(1, _SCORES // min(size, _CANDIDATES)))
        for start in range(0, len(queries), step):
            block = slice(start, start + step)
            own = None if pairs is None else _between(pairs, start, start + step)
            owners, found = _found(embeddings, part, queries[block], k, own, doubts[block], lengths[block])
            vectors, rows = (embeddings, found) if part is None else part.vectors_of(found)
            found = found if part is None else part.positions[found]
            _place(vectors, rows, queries[block], owners, found, scores[block], positions[block])
    return scores, positions


def score(
    embeddings: Float32[np.ndarray, "n d"], queries: Float32[np.ndarray, "q d"], positions: Int[np.ndarray, "q w"]
) -> Float32[np.ndarray, "q w"]:
    """Returns the inner product of each query with each of its positions, -inf for position -1.

    `vecdot` takes every product by itself: no rounding, hence no tie, depends on the rest of a batch.
    """
    scores = np.empty(positions.shape, np.float32)
    step = max(1, _GATHERED // max(positions.shape[1] * embeddings.shape[1], 1))
    for start in range(0, len(positions), step):
        block = slice(start, start + step)
        np.vecdot(queries[block, None], embeddings[positions[block]], out=scores[block])
    scores[positions < 0] = -np.inf
    return scores


def best(
    scores: Float32[np.ndarray, "q w"], positions: Int[np.ndarray, "q w"], k: int
) -> tuple[Float32[np.ndarray, "q _"], Int[np.ndarray, "q _"]]:
    """Returns the first k of each row, or all: the largest scores first, the lower position first where they tie."""
    order = np.lexsort((positions, -scores))[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(positions, order, axis=1)


def _pairs(excluded: Lists, subset: Subset | None, part: Gathered | None):
    """Returns owners, ascending, and places in the part of what is excluded."""
    owners, places = excluded.owners, excluded.rows.astype(np.int64)
    if subset is None or part is None:
        return owners, places
    inside = subset.mask[places]
    ascending = np.searchsorted(subset.positions, places[inside])
    return owners[inside], ascending if part.places is None else part.places[ascending]


def _between(pairs, start: int, stop: int):
    """Returns the pairs of some queries, which are counted from the first of them."""
    inside = slice(*np.searchsorted(pairs[0], [start, stop]))
    return pairs[0][inside] - start, pairs[1][inside]


def _doubts(lengths: Float32[np.ndarray, " q"], dimension: int, longest: float) -> Float32[np.ndarray, " q"]:
    """Returns by how much two ways to sum the products of a query may differ, twice: Higham (2002), section 3.1."""
    share = np.float32(4.01 * (dimension + 1) * _ROUNDING * longest)  # 4, and what is rounded on the way
    return lengths * share + np.float32(1e-37)  # products may underflow


def _found(embeddings, part, queries, k, pairs, doubts, lengths) -> tuple[np.ndarray, np.ndarray]:
    """Returns owners and places of all candidates that may be among the best k of a block of queries."""
    owners, places = [], []
    worst = np.full(len(queries), -np.inf, np.float32)  # a bound of the k-th score from below
    size = len(embeddings if part is None else part.positions)
    asking = np.arange(len(queries))
    for start in range(0, size, _CANDIDATES):
        stop = min(start + _CANDIDATES, size)
        if part is not None and start:  # what follows is shorter: it may be too short for some
            asking = np.flatnonzero(worst - doubts <= lengths * (1 + 1e-4) * part.norms[start])
            if not len(asking):
                break
        some = slice(None) if len(asking) == len(queries) else asking  # a slice copies nothing
        scores = _products(queries[some], embeddings[start:stop] if part is None else part.block(start, stop))
        if pairs is not None:
            inside = (pairs[1] >= start) & (pairs[1] < stop) & np.isin(pairs[0], asking)
            scores[np.searchsorted(asking, pairs[0][inside]), pairs[1][inside] - start] = -np.inf
        maxima = _maxima(scores, k)
        if k < maxima.shape[1]:
            worst[some] = np.maximum(worst[some], np.partition(maxima, -k, axis=1)[:, -k])
        own, found = _above(scores, maxima, np.maximum(worst[some] - doubts[some], LEAST)[:, None], k)
        owners.append(asking[own])
        places.append(found + start)
    return (owners[0], places[0]) if len(owners) == 1 else (np.concatenate(owners), np.concatenate(places))


def _products(queries: Float32[np.ndarray, "q d"], vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "q n"]:
    """Returns all inner products; small ones in pieces for each of which OpenBLAS starts no threads.

    Its threads wait by spinning: where several searches run at once, that costs more than the product.
    """
    width, most = _ALONE // max(queries.size, 1), _SMALL if _RUNNING.number == 1 else _MIDDLE
    if queries.size * len(vectors) > most or not 8 <= width < len(vectors):
        return queries @ vectors.T
    even = len(vectors) - len(vectors) % width
    scores = np.empty((len(queries), len(vectors)), np.float32)
    pieces = vectors[:even].reshape(-1, width, vectors.shape[1]).transpose(0, 2, 1)
    np.matmul(queries, pieces, out=scores[:, :even].reshape(len(queries), -1, width).transpose(1, 0, 2))
    np.matmul(queries, vectors[even:].T, out=scores[:, even:])
    return scores


def _maxima(scores: Float32[np.ndarray, "q n"], k: int) -> Float32[np.ndarray, "q _"]:
    """Returns the best of each chunk, whose k-th best is no better than that of all; few scores as they are."""
    width = scores.shape[1]
    if width <= 4 * _CHUNK * k or scores.size <= _FEW:
        return scores
    return scores[:, : width - width % _CHUNK].reshape(len(scores), _CHUNK, -1).max(axis=1)


def _above(scores, maxima, least, k) -> tuple[Int64[np.ndarray, " f"], Int64[np.ndarray, " f"]]:
    """Returns owners and columns of the scores that reach `least`; those of many in the chunks alone that do."""
    if maxima is scores or scores.shape[1] <= 16 * _CHUNK * k:
        return _places(scores >= least)
    even = _CHUNK * maxima.shape[1]
    owners, chunks = _places(maxima >= least)
    members = chunks[:, None] + np.arange(_CHUNK) * maxima.shape[1]
    chunk, member = _places(scores[owners[:, None], members] >= least[owners])
    rest = _places(scores[:, even:] >= least)
    return np.concatenate([owners[chunk], rest[0]]), np.concatenate([members[chunk, member], rest[1] + even])


def _places(mask: Bool[np.ndarray, "n m"]) -> tuple[Int64[np.ndarray, " f"], Int64[np.ndarray, " f"]]:
    """Returns row and column of what is true; where little is, faster than `np.nonzero`."""
    found = np.flatnonzero(mask)
    return (np.zeros_like(found), found) if len(mask) == 1 else np.divmod(found, max(mask.shape[1], 1))


def _place_all(embeddings, part, queries, pairs, scores, positions) -> None:
    """Writes all of a part that has k candidates at most: there is nothing to choose."""
    places = np.arange(len(embeddings)) if part is None else part.positions
    exact = np.vecdot(queries[:, None], embeddings if part is None else part.block(0, len(places)))
    if pairs is not None:
        exact[pairs] = -np.inf
    found = np.where(exact > -np.inf, places, -1)
    scores[:, : len(places)], positions[:, : len(places)] = best(exact, found, len(places))


def _place_one(embeddings, part, query, pairs, doubt, scores, positions) -> None:
    """Writes the best for a single query over a block of candidates: its time is that of the calls, hence so few."""
    vectors = embeddings if part is None else part.block(0, len(part.positions))
    products = vectors @ query
    if pairs is not None:
        products[pairs[1]] = -np.inf
    k = len(scores)
    least = max(np.partition(products, -k)[-k] - doubt, LEAST)
    found = np.flatnonzero(products >= least)
    exact = np.vecdot(vectors[found], query)
    order = np.lexsort((found, -exact))[:k]
    found = found[order]
    scores[: len(order)], positions[: len(order)] = exact[order], found if part is None else part.positions[found]


def _place(vectors, rows, queries, owners, places, scores, positions) -> None:
    """Writes the best of what was found, `vectors[rows]`, into `scores` and `positions`; ties by place."""
    for members, table in _tables(owners, len(queries)):
        refused = table < 0
        exact = score(vectors, queries[members], np.where(refused, -1, rows[table]))
        width = min(table.shape[1], scores.shape[1])
        ranked = best(exact, np.where(refused, -1, places[table]), width)
        scores[members, :width], positions[members, :width] = ranked


def _tables(owners: Int64[np.ndarray, " f"], num_queries: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields queries that own about as many each, and where in `owners` these are [queries, width], -1 behind them.

    Takes O(f) time and memory where the owners ascend, O(f log f) otherwise: half of a table at most is -1.
    """
    order = None if np.all(owners[1:] >= owners[:-1]) else np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=num_queries)
    starts, doublings = np.cumsum(counts) - counts, np.frexp(counts)[1]
    for doubling in np.unique(doublings[counts > 0]).tolist():
        members = np.flatnonzero(doublings == doubling)
        columns = np.arange(counts[members].max())
        table = np.where(columns < counts[members, None], starts[members, None] + columns, -1)
        yield members, table if order is None else np.where(table < 0, -1, order[table])
