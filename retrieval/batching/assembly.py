"""Batches of an epoch, in an order that is a pure function of (seed, epoch), with repeated rows folded.

A batch of implicit feedback names the same queries and candidates again and again: of 8192 rows of MovieLens-100K
about 900 queries and 1200 candidates are distinct. Each batch holds the distinct rows once, and for every example the
indices of its two rows among them, so that towers and scores are computed once per distinct row.

Where an example is a window of a history it has a number of targets, each to be predicted from what precedes it: the
batch then holds the windows as its queries, unfolded, and each target as an example of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, Int32

from retrieval.batching.batch import NO_CAPACITY, Batch, Capacity
from retrieval.batching.folding import Stack, num_batches
from retrieval.batching.sampler import Sampler
from retrieval.data.encoding import Examples

SLACK = 20  # room beyond the fullest batch that was looked at, as a divisor: others are slightly fuller
LEAST_SLACK = 8  # in small batches the numbers vary by more than that
LOOKED_AT = 64  # batches of epoch 0 that the room for distinct rows is measured on


def epoch_order(num_examples: int, *, seed: int, epoch: int) -> Int32[np.ndarray, "n"]:
    """Returns the order of the examples in an epoch, in 4 bytes an example and O(n) time.

    It depends on (seed, epoch) alone, never on what came before: a resumed run sees the same batches. It is that of
    `numpy.random.default_rng((seed, epoch)).permutation(num_examples)`, which would need 8 bytes more.
    """
    order = np.arange(num_examples, dtype=np.int32)
    np.random.default_rng((seed, epoch)).shuffle(order)
    return order


def batches(
    examples: Examples,
    order: Int[np.ndarray, "n"],
    batch_size: int,
    capacity: Capacity = NO_CAPACITY,
    sampler: Sampler | None = None,
) -> Batch:
    """Returns the examples in that order as batches, with a leading axis over them; O(n log batch_size) time.

    Every example occurs once; the last batch is filled up with entries of weight 0. All batches have one shape:
    U and V are the `capacity` where that is enough, else the largest numbers of distinct rows in one of them and a
    little more, so that another order of the same examples hardly ever needs another shape. Without a `sampler`
    there are no negatives but the batch's own positives.
    """
    sampler = Sampler.of_examples(examples) if sampler is None else sampler
    stack = Stack(examples, order, batch_size, sampler)
    limits = _limits(examples, batch_size, sampler)
    sizes = (
        own if most <= own else _with_slack(most, limit)
        for own, most, limit in zip(capacity, stack.most(), limits, strict=True)
    )
    return stack.batches(slice(None), Capacity(*sizes))


def blocks(
    examples: Examples,
    order: Int[np.ndarray, "n"],
    batch_size: int,
    capacity: Capacity,
    steps: int,
    sampler: Sampler | None = None,
) -> Iterator[Batch]:
    """Yields the batches that `batches` returns, in the same order, as blocks of up to `steps` batches.

    The blocks are of equal lengths up to one, so that a scan over them has two shapes at most and, where `steps` is
    3 or more, none of a single batch beside longer ones. U and V are the `capacity`; a batch that it does not hold
    is a block of its own with room for all rows to be distinct where they lack it. So each batch has the same
    shape, and gives the same bits, whatever `steps` is.

    Holds one block in memory; the columns of the examples may be memory-mapped.
    """
    sampler = Sampler.of_examples(examples) if sampler is None else sampler
    total = num_batches(len(order), batch_size)
    number = -(-total // steps)
    limits = _limits(examples, batch_size, sampler)
    for i in range(number):
        first, last = total * i // number, total * (i + 1) // number
        stack = Stack(examples, order, batch_size, sampler, first, last)
        overflows = [tuple(n > own for n, own in zip(ns, capacity, strict=True)) for ns in stack.numbers()]
        start = 0
        for stop in range(1, last - first + 1):
            if stop == last - first or any(overflows[start]) or any(overflows[stop]):
                sizes = (
                    limit if more else own for more, own, limit in zip(overflows[start], capacity, limits, strict=True)
                )
                yield stack.batches(slice(start, stop), Capacity(*sizes))
                start = stop


def room(examples: Examples, order: Int[np.ndarray, "n"], batch_size: int, sampler: Sampler | None = None) -> Capacity:
    """Returns the capacity that batches of these examples hardly ever exceed.

    It is that of the fullest among the first 64 batches in `order` and 5 % more. Padding can change the rounding of
    sums: measure it on the order of epoch 0, wherever a run starts.
    """
    sampler = Sampler.of_examples(examples) if sampler is None else sampler
    last = min(LOOKED_AT, num_batches(len(order), batch_size))
    most = Stack(examples, order, batch_size, sampler, 0, last).most()
    return Capacity(*map(_with_slack, most, _limits(examples, batch_size, sampler)))


def bytes_of(examples: Examples, batch_size: int, capacity: Capacity, sampler: Sampler | None = None) -> int:
    """Returns the bytes of one batch."""
    num_shared, num_own = (sampler.num_shared, sampler.num_own) if sampler else (0, 0)
    an_example = 4 + 4 + 4 + 1 + 4 + 4 * num_own  # two indices, a weight, a flag, a number, and its own negatives
    columns = (*examples.context.values(), *examples.labels.values())
    of_columns = batch_size * sum(column.dtype.itemsize * column[:1].size for column in columns)
    return capacity.examples * an_example + 4 * num_shared + 4 * capacity.queries + 8 * capacity.candidates + of_columns


def check_batch_size(batch_size: int, num_examples: int) -> None:
    """Checks that batches of that size can be taken from so many examples.

    Raises:
      ValueError: they cannot.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"batch_size must be in [1, {num_examples}], the number of training examples, got {batch_size}"
        )


def _limits(examples: Examples, batch_size: int, sampler: Sampler) -> Capacity:
    """Returns how much a batch holds at most."""
    targets = batch_size * int(np.prod(examples.candidate_rows.shape[1:]))
    return Capacity(batch_size, targets * (1 + sampler.num_own) + sampler.num_shared, targets)


def _with_slack(most: int, limit: int) -> int:
    return min(limit, most + max(LEAST_SLACK, most // SLACK))
