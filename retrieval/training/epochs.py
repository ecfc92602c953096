"""The loop over epochs: each block of batches runs as one compiled program while the next block is prepared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from retrieval.batching.assembly import check_batch_size
from retrieval.batching.device import device_blocks
from retrieval.batching.folding import num_batches
from retrieval.batching.negatives import Negatives
from retrieval.config.placements import check_placement
from retrieval.data.encoding import Examples
from retrieval.models.binding import take_apart
from retrieval.training.epoch_sums import EpochSums
from retrieval.training.step import Loss, TrainState, create_state, train_block


def fit(
    model: nnx.Module,
    examples: Examples,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    state: TrainState | None = None,
    placement: str = "auto",
    negatives: Negatives | None = None,
) -> Iterator[tuple[TrainState, dict[str, float]]]:
    """Trains the model and yields, after each epoch, the state and the mean of each logged sum.

    An epoch is one call of a compiled program, or one call a block where batches are streamed; a background thread
    prepares the next block while the device computes. A run resumed from a yielded `state` with the same arguments
    yields bit for bit what the uninterrupted run yields, with any placement.

    Args:
      model: the model whose parameters are trained; it is not changed.
      examples: the training examples, [n] a column; for streaming, columns may be memory-mapped.
      loss: the objective to minimise, see `retrieval.objectives`.
      optimizer: any optax optimizer.
      batch_size: examples a step; the last step of an epoch has fewer if the number of examples is no multiple.
      epochs: number of epochs in total, including the epochs already in `state`.
      seed: seed of the order of the examples, of the draws of negatives, and of randomness in the model.
      state: the state to resume from; None: the initial parameters of the model.
      placement: "device": all batches of an epoch are on the device. "stream": three blocks of them are. "auto":
        "device" if they fit, see `retrieval.batching.device.device_blocks`.
      negatives: negatives of a batch beside its own positives; None: no others.

    Raises:
      ValueError: `batch_size` exceeds the number of examples, or the placement is unknown.
      FloatingPointError: the loss or a parameter is not finite; states yielded earlier are.
    """
    num_examples = len(examples.query_rows)
    check_batch_size(batch_size, num_examples)
    check_placement(placement)
    state = create_state(model, optimizer) if state is None else state
    total = num_batches(num_examples, batch_size)
    remaining = range(int(state.step) // total, epochs)
    source = device_blocks(
        examples, batch_size=batch_size, epochs=remaining, seed=seed, placement=placement, negatives=negatives
    )
    return _epochs(model, loss, optimizer, jax.random.key(seed), state, source, remaining, total)


def _epochs(model, loss, optimizer, key, state, source, remaining, total):
    """Yields the results of `fit`, which is no generator itself: it checks its arguments before the first `next`."""
    # arrays that the model holds beside its parameters must be arguments of the program: as constants they would be
    # copied into it, and XLA would fold them
    given, model_of = take_apart(model)

    def run_block(state, loss, given, key, block):
        return train_block(state, block, loss, model_of(given), optimizer, key)

    run_block = jax.jit(run_block, donate_argnums=0)
    with contextlib.closing(source):
        for epoch in remaining:
            state = jax.tree.map(
                jnp.copy, state
            )  # the program reuses the memory of its state; the caller keeps its own
            sums = EpochSums(epoch, total)
            while sums.steps < total:
                block = next(source)
                sums.collect()  # waits for the block before: at most one block is queued on the device
                state, block_sums = run_block(state, loss, given, key, block)
                sums.add(block_sums)
                del block  # frees its memory before the next one is moved to the device
            sums.collect()
            sums.check_finite(state.params)
            yield state, sums.means()
