"""Selection of the k best from scores in memory; pure NumPy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, UInt64

from retrieval.common.lists import PADDING_ROW, Lists
from retrieval.ranking.keys import NOTHING, decode, encode


def top_k_of_scores(
    scores: Float32[np.ndarray, "Q N"], k: int, exclusions: Sequence[Lists | None]
) -> list[Int32[np.ndarray, "Q k"]]:
    """Returns the rows of the k highest scores of each query, in the order of `top_k`, once per exclusion.

    All exclusions share one selection, of k plus the length of the longest excluded list: O(Q N) time, and memory for
    a second copy of `scores`.

    Args:
      scores: score of each query and candidate.
      k: length of the lists, at least 1; may exceed N.
      exclusions: rows of the candidates left out for each query; None: nothing.

    >>> top_k_of_scores(np.array([[3, 5, 5, 1]], np.float32), 2, [None, Lists.from_sequences([[1]])])
    [array([[1, 2]], dtype=int32), array([[2, 0]], dtype=int32)]
    """
    sets = [Lists.empty(len(scores)) if lists is None else lists.sets() for lists in exclusions]
    enough = k + max((int(lists.lengths.max(initial=0)) for lists in sets), default=0)
    best = merge(np.full((len(scores), enough), NOTHING), *select(scores, enough))
    rows = decode(np.sort(best, axis=1))[1]
    owners = np.repeat(np.arange(len(scores)), enough)
    results = []
    for lists in sets:
        left_out = lists.contain(owners, rows.ravel()).reshape(rows.shape)
        first = np.argsort(left_out, axis=1, kind="stable")[:, :k]  # kept rows move to the front, in their order
        kept = ~np.take_along_axis(left_out, first, axis=1)
        results.append(np.where(kept, np.take_along_axis(rows, first, axis=1), np.int32(PADDING_ROW)))
    return results


def select(scores: Float32[np.ndarray, "Q n"], k: int) -> tuple[Int[np.ndarray, "found"], UInt64[np.ndarray, "found"]]:
    """Returns owners and keys of the k highest scores of each query, and of the scores equal to the k-th; no -inf."""
    least = np.full((len(scores), 1), -np.inf, np.float32)
    if k < scores.shape[1]:
        least = np.partition(scores, -k, axis=1)[:, -k, None]  # NaN last, as in the order of keys
    owners, rows = indices_of_true(~(scores < least) & (scores != -np.inf))
    return owners, encode(scores[owners, rows], rows)


def merge(
    best: UInt64[np.ndarray, "Q k"], owners: Int[np.ndarray, "found"], keys: UInt64[np.ndarray, "found"]
) -> UInt64[np.ndarray, "Q k"]:
    """Returns the k lowest keys of each query, in any order, among `best` and the (owner, key) pairs."""
    order = np.argsort(owners, kind="stable")
    counts = np.bincount(owners, minlength=len(best))
    starts = np.cumsum(counts) - counts
    k = best.shape[1]
    joined = np.full((len(best), k + counts.max(initial=0)), NOTHING)
    joined[:, :k] = best
    joined[owners[order], k + np.arange(len(owners)) - starts[owners[order]]] = keys[order]
    return np.partition(joined, k - 1, axis=1)[:, :k]


def indices_of_true(mask: Bool[np.ndarray, "n m"]) -> tuple[Int[np.ndarray, "found"], Int[np.ndarray, "found"]]:
    """Returns row and column of each true element; faster than `np.nonzero` where few elements are true."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])
