"""The batches of the epochs on the device: an epoch as one block, or as a stream of blocks where it does not fit."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np

from retrieval.batching.assembly import blocks, bytes_of, epoch_order, room
from retrieval.batching.batch import NO_ROW, Batch
from retrieval.batching.folding import num_batches
from retrieval.batching.negatives import Negatives
from retrieval.batching.prefetch import ahead
from retrieval.batching.sampler import Sampler
from retrieval.batching.stream_frequencies import StreamFrequencies
from retrieval.data.encoding import Examples
from retrieval.data.out_of_core.mapped import gather
from retrieval.sharding.devices import memory_limit

DEVICE_SHARE = 1 / 8  # of its memory, for the batches of an epoch; those of the next one are there too
BLOCK_BYTES = 1 << 25  # of a streamed block; there are three: in use, ready, and in preparation
LEAST_STEPS = 3  # of a streamed block, see `blocks`


def device_blocks(
    examples: Examples, *, batch_size: int, epochs: range, seed: int, placement: str, negatives: Negatives | None = None
) -> Iterator[Batch]:
    """Yields the batches of the epochs in blocks on the device, epoch by epoch, each prepared ahead of its use.

    The batches and their shapes are the same for every placement and whatever the first epoch is.

    Args:
      examples: the training examples, [n] a column; columns may be memory-mapped.
      batch_size: examples a batch.
      epochs: which epochs; each takes `num_batches` batches.
      seed: of the order of the examples.
      placement: "device": an epoch is one block. "stream": blocks of about 32 MiB. "auto": the first if the batches
        of an epoch fit into an eighth of the device's memory (of the machine's, where the device has none of its own).
      negatives: what a batch holds beside its own positives; None: nothing.
    """
    negatives = Negatives.in_batch(examples) if negatives is None else negatives
    return ahead(_blocks(examples, batch_size, epochs, seed, placement, negatives))


def _blocks(examples, batch_size, epochs, seed, placement, negatives):
    num_examples = len(examples.query_rows)
    sampler = Sampler(negatives, seed)
    order = epoch_order(num_examples, seed=seed, epoch=0)
    capacity = room(examples, order, batch_size, sampler)
    steps = _steps_a_block(
        num_batches(num_examples, batch_size), bytes_of(examples, batch_size, capacity, sampler), placement
    )
    num_rows = len(negatives.counts)
    estimate = _estimate(examples, num_rows, batch_size, epochs, seed) if negatives.estimated else None
    for epoch in epochs:
        before = order[:0]
        if epoch > 0:
            order = None  # before the next is made: one order of 200 million examples takes 0.8 GB
            if negatives.queue:
                before = epoch_order(num_examples, seed=seed, epoch=epoch - 1)[-negatives.queue :].copy()
            order = epoch_order(num_examples, seed=seed, epoch=epoch)
        sampler = Sampler(negatives, seed, epoch, before, estimate)
        yield from map(jax.device_put, blocks(examples, order, batch_size, capacity, steps, sampler))


def _estimate(examples, num_rows, batch_size, epochs, seed):
    """Returns the frequencies as the epochs before the first of `epochs` showed them, wherever a run starts."""
    estimate = StreamFrequencies(num_rows)
    for epoch in range(epochs.start):
        order = epoch_order(len(examples.query_rows), seed=seed, epoch=epoch)
        for start in range(0, len(order), batch_size):
            rows = gather(examples.candidate_rows, order[start : start + batch_size])
            rows = rows[rows != NO_ROW]
            estimate.update(*np.unique(rows, return_counts=True), len(rows))
    return estimate


def _steps_a_block(total: int, bytes_a_step: int, placement: str) -> int:
    fits = total * bytes_a_step <= DEVICE_SHARE * memory_limit()
    if placement == "device" or (placement == "auto" and fits):
        return total
    return max(LEAST_STEPS, BLOCK_BYTES // bytes_a_step)
