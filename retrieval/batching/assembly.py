"""Assembles the batches of an epoch, in an order that is a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int, Int32

from retrieval.batching.batch import NO_CAPACITY, Batch, Capacity
from retrieval.batching.folding import Stack, num_batches
from retrieval.batching.sampler import Sampler
from retrieval.data.encoding import Examples

MEASURED_BATCHES = 64  # batches of epoch 0 on which the capacity is measured
SLACK_DIVISOR = 20  # a capacity exceeds the largest measured number by 1 / 20: other batches are slightly fuller
MIN_SLACK = 8  # the numbers of small batches vary by more than 1 / 20


def epoch_order(num_examples: int, *, seed: int, epoch: int) -> Int32[np.ndarray, "n"]:
    """Returns the order of the examples in an epoch, in O(n) time and 4 bytes an example.

    The order depends on (seed, epoch) alone, never on earlier epochs: a resumed run sees the same batches. It is equal
    to `numpy.random.default_rng((seed, epoch)).permutation(num_examples)`, which needs 12 bytes an example.
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
    """Returns the examples as batches in the given order, stacked along a leading axis; O(n log batch_size) time.

    Every example occurs once; the last batch is padded with examples of weight 0. All batches have one shape: where the
    `capacity` is too small for a batch, the size becomes the largest number of distinct rows in a batch plus 5 %, so
    that another order of the same examples hardly ever needs another shape.

    Args:
      examples: the examples [n].
      order: indices of the examples in the order of the batches [n].
      batch_size: examples a batch.
      capacity: sizes to which the batches are padded if they fit.
      sampler: draws the negatives; None: the positives of a batch are its only negatives.
    """
    sampler = Sampler.in_batch(examples) if sampler is None else sampler
    stack = Stack(examples, order, batch_size, sampler)
    limits = _limits(examples, batch_size, sampler)
    sizes = (
        given if largest <= given else _with_slack(largest, limit)
        for given, largest, limit in zip(capacity, stack.largest(), limits, strict=True)
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
    """Yields the batches of `batches`, in the same order, in blocks of up to `steps` batches.

    The lengths of the blocks differ by at most one, so that a scan over blocks compiles at most two programs; with
    3 or more `steps`, no block is a single batch unless all are. A batch that exceeds the `capacity` becomes a block
    of its own, padded to the largest possible size. The shape of a batch, and with it the rounding of its sums, is
    therefore the same whatever `steps` is.

    Memory is that of one block; the columns of the examples may be memory-mapped.

    Args:
      examples: the examples [n].
      order: indices of the examples in the order of the batches [n].
      batch_size: examples a batch.
      capacity: sizes to which the batches are padded, see `measure_capacity`.
      steps: the largest number of batches in a block.
      sampler: draws the negatives; None: the positives of a batch are its only negatives.
    """
    sampler = Sampler.in_batch(examples) if sampler is None else sampler
    total = num_batches(len(order), batch_size)
    num_blocks = -(-total // steps)
    limits = _limits(examples, batch_size, sampler)
    for i in range(num_blocks):
        first, last = total * i // num_blocks, total * (i + 1) // num_blocks
        stack = Stack(examples, order, batch_size, sampler, first, last)
        overflows = [tuple(n > size for n, size in zip(ns, capacity, strict=True)) for ns in stack.numbers()]
        start = 0
        for stop in range(1, last - first + 1):
            if stop == last - first or any(overflows[start]) or any(overflows[stop]):
                sizes = (
                    limit if overflow else size
                    for overflow, size, limit in zip(overflows[start], capacity, limits, strict=True)
                )
                yield stack.batches(slice(start, stop), Capacity(*sizes))
                start = stop


def measure_capacity(
    examples: Examples, order: Int[np.ndarray, "n"], batch_size: int, sampler: Sampler | None = None
) -> Capacity:
    """Returns a capacity that batches of these examples hardly ever exceed.

    It is the largest number of distinct rows among the first 64 batches of the `order`, plus 5 %. Padding can change
    the rounding of sums: always measure on the order of epoch 0, also in a run that starts at a later epoch.
    """
    sampler = Sampler.in_batch(examples) if sampler is None else sampler
    last = min(MEASURED_BATCHES, num_batches(len(order), batch_size))
    largest = Stack(examples, order, batch_size, sampler, 0, last).largest()
    return Capacity(*map(_with_slack, largest, _limits(examples, batch_size, sampler)))


def batch_bytes(examples: Examples, batch_size: int, capacity: Capacity, sampler: Sampler | None = None) -> int:
    """Returns the size of one batch in bytes."""
    num_shared, num_own = (sampler.num_shared, sampler.num_own) if sampler else (0, 0)
    example_bytes = 4 + 4 + 4 + 1 + 4 + 4 * num_own  # two indices, weight, flag, number of dislikes, own negatives
    columns = (*examples.context.values(), *examples.labels.values())
    column_bytes = batch_size * sum(column.dtype.itemsize * column[:1].size for column in columns)
    distinct_bytes = 4 * capacity.queries + 8 * capacity.candidates  # a candidate has a row and a probability
    return capacity.examples * example_bytes + 4 * num_shared + distinct_bytes + column_bytes


def check_batch_size(batch_size: int, num_examples: int) -> None:
    """Checks that the examples fill at least one batch.

    Raises:
      ValueError: `batch_size` is not in [1, num_examples].
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"batch_size must be in [1, {num_examples}], the number of training examples, got {batch_size}"
        )


def _limits(examples: Examples, batch_size: int, sampler: Sampler) -> Capacity:
    """Returns the largest possible numbers of a batch: all of its rows distinct."""
    num_targets = batch_size * int(np.prod(examples.candidate_rows.shape[1:]))
    return Capacity(batch_size, num_targets * (1 + sampler.num_own) + sampler.num_shared, num_targets)


def _with_slack(number: int, limit: int) -> int:
    return min(limit, number + max(MIN_SLACK, number // SLACK_DIVISOR))
