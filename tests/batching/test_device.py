"""Where the batches of an epoch lie, and that each block is the same whatever the placement is."""

import jax
import numpy as np
import pytest

from retrieval.batching import device
from retrieval.batching.assembly import batch_bytes, blocks, epoch_order, measure_capacity
from retrieval.batching.folding import num_batches
from retrieval.data.encoding import Examples

RNG = np.random.default_rng(0)
EXAMPLES = Examples(
    RNG.integers(1, 300, 5000).astype(np.int32), RNG.integers(1, 500, 5000).astype(np.int32), np.ones(5000, np.float32)
)
SETTINGS = {"batch_size": 100, "epochs": range(1, 3), "seed": 3}


def lengths(placement):
    return [len(block.real) for block in device.device_blocks(EXAMPLES, placement=placement, **SETTINGS)]


def test_an_epoch_on_the_device_is_one_block():
    assert lengths("device") == [50, 50]


def test_a_streamed_epoch_has_blocks_of_the_given_bytes(monkeypatch):
    capacity = measure_capacity(EXAMPLES, epoch_order(5000, seed=3, epoch=0), 100)
    monkeypatch.setattr(device, "BLOCK_BYTES", 10 * batch_bytes(EXAMPLES, 100, capacity) + 1)
    assert lengths("stream") == 2 * [10] * 5


@pytest.mark.parametrize(("share_of_epoch", "number"), [(1.0, 2), (0.99, 34)])
def test_auto_streams_what_does_not_fit_into_the_share_of_the_memory(monkeypatch, share_of_epoch, number):
    capacity = measure_capacity(EXAMPLES, epoch_order(5000, seed=3, epoch=0), 100)
    epoch_bytes = num_batches(5000, 100) * batch_bytes(EXAMPLES, 100, capacity)
    monkeypatch.setattr(device, "memory_limit", lambda: epoch_bytes * share_of_epoch / device.DEVICE_SHARE)
    monkeypatch.setattr(device, "BLOCK_BYTES", 1)
    assert len(lengths("auto")) == number


def test_the_blocks_are_those_of_the_orders_of_the_epochs_on_the_device():
    capacity = measure_capacity(EXAMPLES, epoch_order(5000, seed=3, epoch=0), 100)
    expected = [
        block
        for epoch in (1, 2)
        for block in blocks(EXAMPLES, epoch_order(5000, seed=3, epoch=epoch), 100, capacity, 50)
    ]
    found = list(device.device_blocks(EXAMPLES, placement="device", **SETTINGS))
    for actual, desired in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert isinstance(actual, jax.Array) and np.array_equal(actual, desired)
