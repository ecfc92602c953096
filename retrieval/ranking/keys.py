"""Integers whose order is the one tie rule of the library: higher scores first, equal scores by ascending row.

NaN comes before every number, and zeros of either sign are equal.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int, Int32, UInt32, UInt64

from retrieval.common.lists import PADDING_ROW

NOTHING = np.uint64(2**64 - 1)  # comes after the key of every candidate


def ordered(scores: Float32[np.ndarray, "*shape"]) -> UInt32[np.ndarray, "*shape"]:
    """Returns integers in the order of the scores: zeros of either sign are equal, NaN is above all.

    >>> ordered(np.array([-1, -0.0, 0, 1, np.nan], np.float32)).argsort(kind="stable")
    array([0, 1, 2, 3, 4])
    """
    bits = (scores + np.float32(0)).view(np.uint32)  # -0.0 becomes 0.0
    flipped = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(2**31))
    return np.where(np.isnan(scores), np.uint32(2**32 - 1), flipped)


def unordered(integers: UInt32[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape"]:
    """Inverts `ordered`: returns the score of each integer."""
    return np.where(integers >> np.uint32(31), integers & np.uint32(2**31 - 1), ~integers).view(np.float32)


def encode(scores: Float32[np.ndarray, "n"], rows: Int[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
    """Returns one integer per (score, row) pair; ascending integers are descending scores, then ascending rows.

    >>> encode(np.array([1, 2, 2], np.float32), np.array([0, 9, 3])).argsort()
    array([2, 1, 0])
    """
    return (~ordered(scores)).astype(np.uint64) << np.uint64(32) | rows.astype(np.uint64)


def decode(keys: UInt64[np.ndarray, "*shape"]) -> tuple[Float32[np.ndarray, "*shape"], Int32[np.ndarray, "*shape"]]:
    """Inverts `encode`: returns scores and rows, -inf and -1 for `NOTHING`."""
    nothing = keys == NOTHING
    scores = unordered(~(keys >> np.uint64(32)).astype(np.uint32))
    rows = (keys & np.uint64(2**32 - 1)).astype(np.uint32).view(np.int32)
    return np.where(nothing, np.float32(-np.inf), scores), np.where(nothing, np.int32(PADDING_ROW), rows)


def encode_by_owner(owners: Int[np.ndarray, "n"], scores: Float32[np.ndarray, "n"]) -> UInt64[np.ndarray, "n"]:
    """Returns one integer per (owner, score) pair, ascending in both, NaN above all."""
    return owners.astype(np.uint64) << np.uint64(32) | ordered(scores).astype(np.uint64)
