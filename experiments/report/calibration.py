"""Calibration of popularity: which share of the recommendations goes to items of which popularity."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from retrieval.common.lists import PADDING_ROW

NUM_GROUPS = 10  # of items, by popularity


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Shares of groups of items, the most popular group first.

    Attributes:
      sizes: number of items of each group [G].
      train: share of the interactions in train [G].
      test: share of the interactions in test [G].
      lists: share of the recommendations, by system [G] each.
    """

    sizes: Int[np.ndarray, "G"]
    train: Float[np.ndarray, "G"]
    test: Float[np.ndarray, "G"]
    lists: Mapping[str, Float[np.ndarray, "G"]]


def calibrate(
    counts: Float[np.ndarray, "N"], test: Int[np.ndarray, "n"], lists: Mapping[str, Int[np.ndarray, "Q k"]]
) -> Calibration:
    """Compares recommendations with interactions, by groups of items that each have a tenth of train.

    An item belongs to the group in which the middle of its own share of train lies; very popular items leave groups
    empty.

    Args:
      counts: interactions of each item in train [N].
      test: positions of the items of the test part, one an interaction [n].
      lists: recommended positions, by system, `PADDING_ROW` at the end of a short list [Q, k] each.
    """
    order = np.argsort(-counts, kind="stable")
    total = max(float(counts.sum(dtype=np.float64)), 1.0)
    middles = np.cumsum(counts[order], dtype=np.float64) - counts[order] / 2
    groups = np.empty(len(counts), np.int64)
    groups[order] = np.minimum(middles * NUM_GROUPS / total, NUM_GROUPS - 1).astype(np.int64)

    def shares(positions):
        found = np.bincount(groups[positions[positions != PADDING_ROW]], minlength=NUM_GROUPS)
        return found / max(found.sum(), 1)

    return Calibration(
        sizes=np.bincount(groups, minlength=NUM_GROUPS),
        train=np.bincount(groups, counts, NUM_GROUPS) / total,
        test=shares(test),
        lists={name: shares(positions) for name, positions in lists.items()},
    )
