"""The loop over epochs: one compiled program a block of batches, the next block prepared while the device computes."""

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
    """Trains for `epochs` epochs and yields the state and the mean of each logged sum after each.

    An epoch is one call of a compiled program, or one for each block where it is streamed; batches are prepared in a
    background thread while the device computes what comes before. Given the same arguments, a run that continues
    from a yielded `state` yields the same as the run that went on; the placement changes no bit either.

    Args:
      model: the model whose parameters are trained.
      examples: the training examples, [n] a column; streamed ones may be memory-mapped.
      loss: what is minimised.
      optimizer: any optax optimizer.
      batch_size: examples a step; the last step of an epoch takes what is left.
      epochs: number of epochs from the beginning, those in `state` included.
      seed: of the order of the examples, and of what is random in the model.
      state: where to continue; None: at the model's own parameters.
      placement: "device": the batches of an epoch lie on the device. "stream": a few blocks of them do. "auto": the
        first if they fit, see `retrieval.batching.device.device_blocks`.
      negatives: what each batch holds beside its own positives, and how often; None: nothing.

    Raises:
      ValueError: `batch_size` exceeds the number of examples, or the placement is unknown.
      FloatingPointError: the loss or a parameter is no longer finite; states yielded before it are good.
    """
    num_examples = len(examples.query_rows)
    check_batch_size(batch_size, num_examples)
    check_placement(placement)
    state = create_state(model, optimizer) if state is None else state
    total = num_batches(num_examples, batch_size)
    left = range(int(state.step) // total, epochs)
    source = device_blocks(
        examples, batch_size=batch_size, epochs=left, seed=seed, placement=placement, negatives=negatives
    )
    return _epochs(model, loss, optimizer, jax.random.key(seed), state, source, left, total)


def _epochs(model, loss, optimizer, key, state, source, left, total):
    """Yields what `fit` does; a generator of its own, so that `fit` refuses its arguments before the first epoch."""
    given, model_of = take_apart(model)

    def run_block(state, loss, given, key, block):
        return train_block(state, block, loss, model_of(given), optimizer, key)

    run_block = jax.jit(run_block, donate_argnums=0)
    with contextlib.closing(source):
        for epoch in left:
            state = jax.tree.map(jnp.copy, state)  # blocks take over the memory of the state, but not of the caller's
            sums = EpochSums(epoch, total)
            while sums.steps < total:
                block = next(source)
                sums.collect()
                state, of_block = run_block(state, loss, given, key, block)
                sums.add(of_block)
                del block
            sums.collect()
            sums.check_finite(state.params)
            yield state, sums.means()
