"""Moves the batches of the epochs to the device: an epoch as one block, or as a stream of blocks if it does not fit."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np

from retrieval.batching.assembly import batch_bytes, blocks, epoch_order, measure_capacity
from retrieval.batching.batch import NO_ROW, Batch
from retrieval.batching.folding import num_batches
from retrieval.batching.negatives import Negatives
from retrieval.batching.prefetch import ahead
from retrieval.batching.sampler import Sampler
from retrieval.batching.stream_frequencies import StreamFrequencies
from retrieval.data.encoding import Examples
from retrieval.data.out_of_core.mapped import gather
from retrieval.sharding.devices import memory_limit

DEVICE_SHARE = 1 / 8  # of the device's memory for the batches of one epoch; it holds those of the next epoch as well
BLOCK_BYTES = 1 << 25  # size of a streamed block; three exist at a time: in use, ready, and in preparation
MIN_STEPS = 3  # batches of a streamed block, see `blocks`


def device_blocks(
    examples: Examples, *, batch_size: int, epochs: range, seed: int, placement: str, negatives: Negatives | None = None
) -> Iterator[Batch]:
    """Yields the batches of the epochs in blocks on the device, epoch by epoch, each block prepared ahead of its use.

    The batches and their shapes are the same for every placement and for every first epoch.

    Args:
      examples: the training examples, [n] a column; columns may be memory-mapped.
      batch_size: examples a batch.
      epochs: numbers of the epochs; each has `num_batches` batches.
      seed: seed of the order of the examples and of the draws of negatives.
      placement: "device": an epoch is one block. "stream": blocks of about 32 MiB. "auto": "device" if the batches of
        an epoch fit into an eighth of the device's memory (of the machine's, if the device has no memory of its own).
      negatives: negatives of a batch beside its own positives; None: no others.
    """
    negatives = Negatives.in_batch(examples) if negatives is None else negatives
    return ahead(_blocks(examples, batch_size, epochs, seed, placement, negatives))


def _blocks(examples, batch_size, epochs, seed, placement, negatives):
    num_examples = len(examples.query_rows)
    sampler = Sampler(negatives, seed)
    order = epoch_order(num_examples, seed=seed, epoch=0)
    capacity = measure_capacity(examples, order, batch_size, sampler)
    steps = _steps_per_block(
        num_batches(num_examples, batch_size), batch_bytes(examples, batch_size, capacity, sampler), placement
    )
    num_rows = len(negatives.counts)
    estimate = _estimate(examples, num_rows, batch_size, epochs, seed) if negatives.estimated else None
    for epoch in epochs:
        before = order[:0]
        if epoch > 0:
            order = None  # freed before the next order is made: that of 200 million examples takes 0.8 GB
            if negatives.queue:
                before = epoch_order(num_examples, seed=seed, epoch=epoch - 1)[-negatives.queue :].copy()
            order = epoch_order(num_examples, seed=seed, epoch=epoch)
        sampler = Sampler(negatives, seed, epoch, before, estimate)
        yield from map(jax.device_put, blocks(examples, order, batch_size, capacity, steps, sampler))


def _estimate(examples, num_rows, batch_size, epochs, seed):
    """Returns the frequencies estimated from all epochs before the first, so that a resumed run has the same ones."""
    estimate = StreamFrequencies(num_rows)
    for epoch in range(epochs.start):
        order = epoch_order(len(examples.query_rows), seed=seed, epoch=epoch)
        for start in range(0, len(order), batch_size):
            rows = gather(examples.candidate_rows, order[start : start + batch_size])
            rows = rows[rows != NO_ROW]
            estimate.update(*np.unique(rows, return_counts=True), len(rows))
    return estimate


def _steps_per_block(total: int, step_bytes: int, placement: str) -> int:
    fits = total * step_bytes <= DEVICE_SHARE * memory_limit()
    if placement == "device" or (placement == "auto" and fits):
        return total
    return max(MIN_STEPS, BLOCK_BYTES // step_bytes)
