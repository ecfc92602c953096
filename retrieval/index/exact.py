"""Exact maximum-inner-product search in NumPy: matrix products in blocks, and the plain inner product in doubt.

A matrix product rounds each score as its blocks fall; the scores returned are those of `np.vecdot`, which takes every
product by itself. So no answer, and no tie, depends on the other queries of a batch or on the block sizes: what a
matrix product leaves in doubt, by its error bound, is scored again.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64
from numpy.typing import ArrayLike

from retrieval.index import files
from retrieval.index.arguments import (
    Exclusions,
    Gathered,
    Norms,
    Subset,
    as_corpus,
    as_exclusions,
    as_subset,
    as_vectors,
    check_k,
    nothing,
)
from retrieval.index.certificate import Certificate
from retrieval.lists import Lists

KIND = "exact"
_SCORES = 1 << 20  # of a block; they stay in the cache while the best are found
_CANDIDATES = 1 << 14  # of a block, for each of 64 queries
_FEW = 4096  # scores that are not looked at in chunks
_CHUNK = 16  # candidates of which the best is looked at first
_ALONE = 1 << 18  # multiplications of a product for which OpenBLAS starts no threads
_SMALL = 1 << 23  # of a product that is faster without them where others search at the same time
_QUERIES = 128  # of a block, more where candidates are few
_GATHERED = 1 << 16  # numbers gathered at a time
_ROUNDING = 2.0**-24
LEAST = np.finfo(np.float32).min  # above the score of what is excluded


@dataclasses.dataclass(frozen=True, eq=False)
class ExactIndex:
    """Exact search over fixed candidates; `build` or `load` makes one. Threads may search it at the same time.

    >>> scores, positions = ExactIndex.build([[1, 0], [0, 2], [3, 3]]).search([[1, 1]], k=2, excluded=[[1]])
    >>> scores.tolist(), positions.tolist()
    ([[6.0, 1.0]], [[2, 0]])

    Attributes:
      embeddings: float32 [n, d], read-only.
      figures: numbers saved with it, e.g. `recall_at_10`.
      certificate: how it was chosen, where `tune` did.
    """

    embeddings: Float32[np.ndarray, "n d"]
    figures: Mapping[str, float] = dataclasses.field(default_factory=dict)
    certificate: Certificate | None = None

    @classmethod
    def build(cls, embeddings: ArrayLike) -> ExactIndex:
        """Takes the vectors, [n, d], as float32.

        Raises:
          ValueError: the matrix is empty or not two-dimensional, a row is not finite or its squared norm exceeds
            float32.
        """
        return cls(as_corpus(embeddings))

    def __len__(self) -> int:
        return len(self.embeddings)

    @functools.cached_property
    def norms(self) -> Norms:
        """The norms of the embeddings."""
        return Norms.of(self.embeddings)

    def search(
        self,
        queries: ArrayLike,
        k: int,
        excluded: Exclusions | None = None,
        allowed: Subset | np.ndarray | None = None,
    ) -> tuple[Float32[np.ndarray, "q k"], Int32[np.ndarray, "q k"]]:
        """Finds the k candidates with the largest inner products, as `Searcher.search`; O(q n d) time.

        Raises:
          ValueError: an argument does not fit.
        """
        vectors = as_vectors(queries, "queries", self.embeddings.shape[1])
        check_k(k)
        banned = as_exclusions(excluded, len(vectors), len(self))
        return exact_top(self.embeddings, vectors, k, self.norms, banned, as_subset(allowed, len(self)))

    def rebuilt(self, embeddings: ArrayLike) -> ExactIndex:
        """Returns exact search over other vectors, see `Searcher.rebuilt`."""
        return self.build(embeddings)

    def save(self, folder: str | os.PathLike[str], figures: Mapping[str, float] | None = None) -> None:
        """Writes the index into `folder`, see `Searcher.save`."""
        files.save(folder, *(self if figures is None else dataclasses.replace(self, figures=figures)).parts())

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> ExactIndex:
        """Reads what `save` wrote, see `Searcher.load`."""
        return cls.of_parts(*files.load(folder, KIND))

    def parts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Returns what a file holds of it: a record and arrays by name."""
        certificate = None if self.certificate is None else self.certificate.to_record()
        record = {"kind": KIND, "figures": dict(self.figures), "certificate": certificate}
        return record, {"vectors": self.embeddings}

    @classmethod
    def of_parts(cls, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> ExactIndex:
        """Returns the index that `parts` described.

        Raises:
          ValueError: they do not fit each other.
        """
        try:
            certificate = Certificate.of_record(record["certificate"])
            return cls(as_corpus(arrays["vectors"]), record["figures"], certificate)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"record and arrays of the index must fit, got {error!r}; save it again") from error


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
    lengths = np.sqrt(np.vecdot(queries, queries), dtype=np.float64)
    doubts = _doubts(lengths, queries.shape[1], norms.longest)
    step = min(max(_QUERIES, _FEW // size), max(1, _SCORES // min(size, _CANDIDATES)))
    for start in range(0, len(queries), step):
        block = slice(start, start + step)
        own = None
        if pairs is not None:
            inside = slice(*np.searchsorted(pairs[0], [start, start + step]))
            own = pairs[0][inside] - start, pairs[1][inside]
        if size <= k:
            _place_all(embeddings, part, queries[block], own, scores[block], positions[block])
            continue
        owners, found = _found(embeddings, part, queries[block], k, own, doubts[block], lengths[block])
        vectors, rows = (embeddings, found) if part is None else part.vectors_of(found)
        found = found if part is None else part.positions[found]
        _place(vectors, rows, queries[block], owners, found, scores[block], positions[block])
    return scores, positions


def score(
    embeddings: Float32[np.ndarray, "n d"], queries: Float32[np.ndarray, "q d"], positions: Int32[np.ndarray, "q w"]
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


def _pairs(excluded: Lists, subset: Subset | None, part: Gathered | None):
    """Returns owners, ascending, and places in the part of what is excluded."""
    owners, places = excluded.owners, excluded.rows.astype(np.int64)
    if subset is None or part is None:
        return owners, places
    inside = subset.mask[places]
    ascending = np.searchsorted(subset.positions, places[inside])
    return owners[inside], ascending if part.places is None else part.places[ascending]


def _doubts(lengths: Float64[np.ndarray, " q"], dimension: int, longest: float) -> Float32[np.ndarray, " q"]:
    """Returns by how much two ways to sum the products of a query may differ, twice: Higham (2002), section 3.1."""
    bound = lengths * (4 * (dimension + 1) * _ROUNDING * longest) + 1e-37  # products may underflow
    return np.nextafter(bound.astype(np.float32), np.float32(np.inf))


def _found(embeddings, part, queries, k, pairs, doubts, lengths) -> tuple[np.ndarray, np.ndarray]:
    """Returns owners and places of all candidates that may be among the best k of a block of queries."""
    owners, places = [], []
    worst = np.full(len(queries), -np.inf, np.float32)  # a bound of the k-th score from below
    size = len(embeddings if part is None else part.positions)
    for start in range(0, size, _CANDIDATES):
        stop = min(start + _CANDIDATES, size)
        asking = np.arange(len(queries))
        if part is not None and start:  # what follows is shorter: it may be too short for some
            asking = np.flatnonzero(worst - doubts <= lengths * (1 + 1e-4) * part.norms[start])
            if not len(asking):
                break
        scores = _products(queries[asking], embeddings[start:stop] if part is None else part.block(start, stop))
        if pairs is not None:
            inside = (pairs[1] >= start) & (pairs[1] < stop) & np.isin(pairs[0], asking)
            scores[np.searchsorted(asking, pairs[0][inside]), pairs[1][inside] - start] = -np.inf
        best = worst[asking]
        found = _above(scores, k, best, doubts[asking])
        worst[asking] = best
        owners.append(asking[found[0]])
        places.append(found[1] + start)
    return (owners[0], places[0]) if len(owners) == 1 else (np.concatenate(owners), np.concatenate(places))


def _products(queries: Float32[np.ndarray, "q d"], vectors: Float32[np.ndarray, "n d"]) -> Float32[np.ndarray, "q n"]:
    """Returns all inner products; small ones in pieces for each of which OpenBLAS starts no threads.

    Its threads wait by spinning: where several searches run at once, that costs more than the product.
    """
    width = _ALONE // max(queries.size, 1)
    if queries.size * len(vectors) > _SMALL or not 8 <= width < len(vectors):
        return queries @ vectors.T
    even = len(vectors) - len(vectors) % width
    pieces = queries @ vectors[:even].reshape(-1, width, vectors.shape[1]).transpose(0, 2, 1)  # [pieces, q, width]
    scores = pieces.transpose(1, 0, 2).reshape(len(queries), even)
    return scores if even == len(vectors) else np.concatenate([scores, queries @ vectors[even:].T], axis=1)


def _above(scores, k, worst, doubts):
    """Returns owners and columns of scores that may be among the best k so far, and raises `worst` in place."""
    num_queries, width = scores.shape
    if width <= 4 * _CHUNK * k or scores.size <= _FEW:
        if k < width:
            np.maximum(worst, np.partition(scores, -k, axis=1)[:, -k], out=worst)
        return _places(scores >= np.maximum(worst - doubts, LEAST)[:, None])
    even = width - width % _CHUNK  # the k-th best of the chunks' maxima is no better than the k-th best of all
    maxima = scores[:, :even].reshape(num_queries, _CHUNK, -1).max(axis=1)
    np.maximum(worst, np.partition(maxima, -k, axis=1)[:, -k], out=worst)
    least = np.maximum(worst - doubts, LEAST)[:, None]
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
    order = np.lexsort((np.broadcast_to(places, exact.shape), -exact))
    scores[:, : len(places)] = exact = np.take_along_axis(exact, order, axis=1)
    positions[:, : len(places)] = np.where(exact > -np.inf, places[order], -1)


def _place(vectors, rows, queries, owners, places, scores, positions) -> None:
    """Writes the best of what was found, `vectors[rows]`, into `scores` and `positions`; ties by place."""
    if len(queries) == 1 and len(owners) * vectors.shape[1] <= _GATHERED:  # one request: its time is that of the calls
        exact = np.vecdot(queries, vectors[rows])
        order = np.lexsort((places, -exact))[: scores.shape[1]]
        scores[0, : len(order)], positions[0, : len(order)] = exact[order], places[order]
        return
    exact = np.empty(len(owners), np.float32)
    step = max(1, _GATHERED // vectors.shape[1])
    for start in range(0, len(owners), step):
        block = slice(start, start + step)
        np.vecdot(queries[owners[block]], vectors[rows[block]], out=exact[block])
    order = np.lexsort((places, -exact, owners))
    owners = owners[order]
    ranks = np.arange(len(owners)) - np.searchsorted(owners, owners)
    kept = ranks < scores.shape[1]
    scores[owners[kept], ranks[kept]] = exact[order][kept]
    positions[owners[kept], ranks[kept]] = places[order][kept]
