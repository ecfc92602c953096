"""Batches of an epoch, in an order that is a pure function of (seed, epoch), with repeated rows folded.

A batch of implicit feedback names the same queries and candidates again and again: of 8192 rows of MovieLens-100K
about 900 queries and 1200 candidates are distinct. Each batch holds the distinct rows once, and for every example the
places of its two rows among them, so that towers and scores are computed once per distinct row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int32

from retrieval.data.encoding import Examples
from retrieval.data.mapped import gather
from retrieval.suggestions import did_you_mean

PLACEMENTS = ("auto", "device", "stream")
SLACK = 20  # room beyond the fullest batch that was looked at, as a divisor: others are slightly fuller
LEAST_SLACK = 8  # in small batches the numbers vary by more than that
LOOKED_AT = 64  # batches of epoch 0 that the room for distinct rows is measured on


class Distinct(NamedTuple):
    """The distinct rows of a batch; padded at the end with row 0, which no place refers to.

    Attributes:
      rows: rows of a vocabulary, each once [U].
      places: where in `rows` the row of each example stands [B].
    """

    rows: Int[np.ndarray, "*steps U"]
    places: Int[np.ndarray, "*steps B"]


class Batch(NamedTuple):
    """A batch of B examples, or with a leading axis a number of batches.

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
    """Returns the order of the examples in an epoch, in 4 bytes an example and O(n) time.

    It depends on (seed, epoch) alone, never on what came before: a resumed run sees the same batches. It is that of
    `numpy.random.default_rng((seed, epoch)).permutation(num_examples)`, which would need 8 bytes more.
    """
    order = np.arange(num_examples, dtype=np.int32)
    np.random.default_rng((seed, epoch)).shuffle(order)
    return order


def batches(
    examples: Examples, order: Int[np.ndarray, "n"], batch_size: int, capacity: tuple[int, int] = (0, 0)
) -> Batch:
    """Returns the examples in that order as batches, with a leading axis over them; O(n log batch_size) time.

    Every example occurs once; the last batch is filled up with entries of weight 0. All batches have one shape:
    U and V are the `capacity` where that is enough, else the largest numbers of distinct rows in one of them and a
    little more, so that another order of the same examples hardly ever needs another shape.
    """
    stack = _Stack(examples, order, batch_size)
    sizes = [
        own if most <= own else _with_slack(most, batch_size) for own, most in zip(capacity, stack.most(), strict=True)
    ]
    return stack.batches(slice(None), *sizes)


def blocks(
    examples: Examples, order: Int[np.ndarray, "n"], batch_size: int, capacity: tuple[int, int], steps: int
) -> Iterator[Batch]:
    """Yields the batches that `batches` returns, in the same order, as blocks of up to `steps` batches.

    The blocks are of equal lengths up to one, so that a scan over them has two shapes at most and, where `steps` is
    3 or more, none of a single batch beside longer ones. U and V are the `capacity`; a batch that it does not hold
    is a block of its own with room for `batch_size` distinct rows where they lack it. So each batch has the same
    shape, and gives the same bits, whatever `steps` is.

    Holds one block in memory; the columns of the examples may be memory-mapped.
    """
    total = num_batches(len(order), batch_size)
    number = -(-total // steps)
    for i in range(number):
        first, last = total * i // number, total * (i + 1) // number
        stack = _Stack(examples, order[first * batch_size : last * batch_size], batch_size)
        overflows = [tuple(n > own for n, own in zip(ns, capacity, strict=True)) for ns in stack.numbers()]
        start = 0
        for stop in range(1, last - first + 1):
            if stop == last - first or any(overflows[start]) or any(overflows[stop]):
                sizes = [batch_size if more else own for more, own in zip(overflows[start], capacity, strict=True)]
                yield stack.batches(slice(start, stop), *sizes)
                start = stop


def room(examples: Examples, order: Int[np.ndarray, "n"], batch_size: int) -> tuple[int, int]:
    """Returns the capacity for distinct queries and candidates that batches of these examples hardly ever exceed.

    It is that of the fullest among the first 64 batches in `order` and 5 % more. Padding can change the rounding of
    sums: measure it on the order of epoch 0, wherever a run starts.
    """
    queries, candidates = _Stack(examples, order[: LOOKED_AT * batch_size], batch_size).most()
    return _with_slack(queries, batch_size), _with_slack(candidates, batch_size)


def bytes_of(batch_size: int, capacity: tuple[int, int]) -> int:
    """Returns the bytes of one batch: two places, a weight and a flag an example, and the distinct rows."""
    return batch_size * (4 + 4 + 4 + 1) + 4 * sum(capacity)


def num_batches(num_examples: int, batch_size: int) -> int:
    """Returns the number of batches of an epoch, the smaller last one included."""
    return -(-num_examples // batch_size)


def check_placement(placement: str) -> None:
    """Checks that `placement` is "auto", "device" or "stream".

    Raises:
      ValueError: it is none of them.
    """
    if placement not in PLACEMENTS:
        remedy = did_you_mean(placement, PLACEMENTS)
        raise ValueError(f"placement must be one of {', '.join(PLACEMENTS)}, got {placement!r}{remedy}")


class _Stack:
    """Consecutive batches, their distinct rows found but not padded yet."""

    def __init__(self, examples: Examples, order: Int[np.ndarray, "n"], batch_size: int):
        shape = num_batches(len(order), batch_size), batch_size
        self.real = (np.arange(shape[0] * batch_size) < len(order)).reshape(shape)
        columns = [np.zeros(shape, column.dtype) for column in examples]
        for filled, column in zip(columns, examples, strict=True):
            filled.reshape(-1)[: len(order)] = gather(column, order)
        query_rows, candidate_rows, self.weights = columns
        self.folded = [_fold(rows, self.real) for rows in (query_rows, candidate_rows)]

    def numbers(self) -> list[tuple[int, int]]:
        """Returns the numbers of distinct queries and candidates of each batch."""
        queries, candidates = ([len(rows) for rows in found] for found, _ in self.folded)
        return list(zip(queries, candidates, strict=True))

    def most(self) -> tuple[int, int]:
        """Returns the largest numbers of distinct queries and candidates of a batch."""
        queries, candidates = zip(*self.numbers(), strict=True)
        return max(queries), max(candidates)

    def batches(self, steps: slice, num_queries: int, num_candidates: int) -> Batch:
        """Returns some of the batches, padded to so many distinct rows."""
        queries, candidates = (
            Distinct(_padded(found[steps], size), places[steps])
            for (found, places), size in zip(self.folded, (num_queries, num_candidates), strict=True)
        )
        return Batch(queries, candidates, self.weights[steps], self.real[steps])


def _with_slack(most: int, batch_size: int) -> int:
    return min(batch_size, most + max(LEAST_SLACK, most // SLACK))


def _fold(
    rows: Int[np.ndarray, "steps B"], real: Bool[np.ndarray, "steps B"]
) -> tuple[list[Int[np.ndarray, "_"]], Int32[np.ndarray, "steps B"]]:
    """Returns the distinct rows of each batch, ascending, and where among them the row of each example stands."""
    places = np.zeros(rows.shape, np.int32)
    found = []
    place_of = np.empty(rows.max(initial=0) + 1, np.int32)  # a look-up is cheaper than the inverse of a sort
    for step, count in enumerate(real.sum(axis=1)):
        ascending = np.sort(rows[step, :count])
        distinct = ascending[np.append(True, ascending[1:] != ascending[:-1])]
        place_of[distinct] = np.arange(len(distinct), dtype=np.int32)
        places[step, :count] = place_of[rows[step, :count]]
        found.append(distinct)
    return found, places


def _padded(found: list[Int[np.ndarray, "_"]], size: int) -> Int32[np.ndarray, "steps U"]:
    padded = np.zeros((len(found), size), np.int32)
    for step, distinct in enumerate(found):
        padded[step, : len(distinct)] = distinct
    return padded
