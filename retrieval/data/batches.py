"""Batches of an epoch, in an order that is a pure function of (seed, epoch), with repeated rows folded.

A batch of implicit feedback names the same queries and candidates again and again: of 8192 rows of MovieLens-100K
about 900 queries and 1200 candidates are distinct. Each batch holds the distinct rows once, and for every example the
places of its two rows among them, so that towers and scores are computed once per distinct row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from retrieval.data.encoding import Examples

SLACK = 20  # room beyond the fullest batch of an epoch, as a divisor: later epochs have slightly fuller ones


class Distinct(NamedTuple):
    """The distinct rows of a batch; padded at the end with row 0, which no place refers to.

    Attributes:
      rows: rows of a vocabulary, each once [U].
      places: where in `rows` the row of each example stands [B].
    """

    rows: Int[np.ndarray, "*steps U"]
    places: Int[np.ndarray, "*steps B"]


class Batch(NamedTuple):
    """A batch of B examples, or with a leading axis the batches of an epoch.

    Attributes:
      queries: distinct query rows, U of them.
      candidates: distinct rows of the positive candidates, V of them.
      weights: weight of each example [B]; 0 for what only fills up the last batch.
      real: False for what only fills up the last batch [B].
    """

    queries: Distinct
    candidates: Distinct
    weights: Float[np.ndarray, "*steps B"]
    real: Bool[np.ndarray, "*steps B"]


def epoch_order(num_examples: int, *, seed: int, epoch: int) -> Int32[np.ndarray, "n"]:
    """Returns the order of the examples in an epoch.

    It depends on (seed, epoch) alone, never on what came before: a resumed run sees the same batches.
    """
    return np.random.default_rng((seed, epoch)).permutation(num_examples).astype(np.int32)


def batches(
    examples: Examples, order: Int[np.ndarray, "n"], batch_size: int, capacity: tuple[int, int] = (0, 0)
) -> Batch:
    """Returns the examples in that order as batches, with a leading axis over them; O(n log batch_size) time.

    Every example occurs once; the last batch is filled up with entries of weight 0. All batches have one shape:
    U and V are the `capacity` where that is enough, else the largest numbers of distinct rows in one of them and a
    little more, so that another order of the same examples hardly ever needs another shape.
    """
    steps = num_batches(len(order), batch_size)
    real = np.arange(steps * batch_size).reshape(steps, batch_size) < len(order)
    columns = [np.zeros(real.shape, column.dtype) for column in examples]
    for filled, column in zip(columns, examples, strict=True):
        filled[real] = column[order]
    query_rows, candidate_rows, weights = columns
    queries = _distinct(query_rows, real, capacity[0])
    return Batch(queries, _distinct(candidate_rows, real, capacity[1]), weights, real)


def num_batches(num_examples: int, batch_size: int) -> int:
    """Returns the number of batches of an epoch, the smaller last one included."""
    return -(-num_examples // batch_size)


def _distinct(rows: Int[np.ndarray, "steps B"], real: Bool[np.ndarray, "steps B"], capacity: int) -> Distinct:
    batch_size = rows.shape[1]
    places = np.zeros(rows.shape, np.int32)
    found = []
    for step in range(len(rows)):
        distinct, places[step, real[step]] = np.unique(rows[step, real[step]], return_inverse=True)
        found.append(distinct)
    most = max([len(distinct) for distinct in found])
    size = capacity if most <= capacity else min(batch_size, most + max(1, most // SLACK))
    padded = np.zeros((len(rows), size), np.int32)
    for step, distinct in enumerate(found):
        padded[step, : len(distinct)] = distinct
    return Distinct(padded, places)
