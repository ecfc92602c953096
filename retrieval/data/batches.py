"""Batch order as a pure function of (seed, epoch)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int32


def num_batches(num_examples: int, batch_size: int) -> int:
    """Returns the number of batches of an epoch, the smaller last one included."""
    return -(-num_examples // batch_size)


def epoch_order(
    num_examples: int, batch_size: int, *, seed: int, epoch: int
) -> tuple[Int32[np.ndarray, "steps batch"], Bool[np.ndarray, "steps batch"]]:
    """Returns the examples of each batch of an epoch, shuffled, and which entries are real.

    Every example occurs once. The last batch is filled up with example 0, marked False, so that all batches have
    one shape. The order depends on (seed, epoch) alone, never on what came before: a resumed run sees the same batches.
    """
    steps = num_batches(num_examples, batch_size)
    order = np.zeros(steps * batch_size, np.int32)
    order[:num_examples] = np.random.default_rng((seed, epoch)).permutation(num_examples)
    real = np.arange(steps * batch_size) < num_examples
    return order.reshape(steps, batch_size), real.reshape(steps, batch_size)
