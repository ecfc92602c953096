"""Several trainings at once: replicas of a model that differ in initial values and learning rates, as one program."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from retrieval.batching.assembly import check_batch_size
from retrieval.batching.device import device_blocks
from retrieval.batching.folding import num_batches
from retrieval.batching.negatives import Negatives
from retrieval.config.placements import check_placement
from retrieval.data.encoding import Examples
from retrieval.models.binding import Given, bind, init, take_apart
from retrieval.training.epoch_sums import means
from retrieval.training.step import Loss, TrainState, create_state, train_block

Means = dict[str, Float[np.ndarray, "R"]]


def fit_many(
    models: Sequence[nnx.Module],
    examples: Examples,
    loss: Loss,
    optimizer: Callable[[Float[Array, ""]], optax.GradientTransformation],
    *,
    learning_rates: Sequence[float],
    batch_size: int,
    epochs: int,
    seed: int,
    placement: str = "auto",
    negatives: Negatives | None = None,
) -> Iterator[tuple[TrainState, Means]]:
    """Trains R replicas of a model together; yields their states [R, ...] and the means of their sums after each epoch.

    Replica r ends as `fit` with model r, learning rate r and the other arguments, to rounding. All see the same batches
    and the same draws of what is random in training: the spread over replicas is that of the initial values. One that
    diverges has means that are not finite, and leaves the others as they are.

    The program does the work of R trainings, in the memory of R. What it pays once is the batches, the start of each
    operation, and compilation: it pays where steps are small for the device, or where programs are not kept on disk. On
    two CPU cores, steps that keep both busy cost somewhat more together than one after another.

    Args:
      models: R models of one structure, with the same arrays beside the parameters, which are taken from the first.
      examples: the training examples, [n] a column.
      loss: what is minimised.
      optimizer: makes the optimizer of a learning rate, as `functools.partial(optimizers.create, "adagrad")`.
      learning_rates: of each replica, R.
      batch_size: examples a step.
      epochs: number of epochs.
      seed: of the order of the examples, and of what is random in the model.
      placement: see `fit`.
      negatives: see `fit`.

    Raises:
      ValueError: the numbers of models and learning rates differ, models are of different shapes, `batch_size` exceeds
        the number of examples, or the placement is unknown.
    """
    if not len(models) == len(learning_rates) > 0:
        raise ValueError(
            f"each replica needs a model and a learning rate, got {len(models)} and {len(learning_rates)} of them"
        )
    check_batch_size(batch_size, len(examples.query_rows))
    check_placement(placement)
    for model in models[1:]:
        bind(models[0], init(model))
    source = device_blocks(
        examples, batch_size=batch_size, epochs=range(epochs), seed=seed, placement=placement, negatives=negatives
    )
    rates = jnp.asarray(learning_rates, jnp.float32)
    total = num_batches(len(examples.query_rows), batch_size)
    return _epochs(models, loss, optimizer, rates, jax.random.key(seed), source, epochs, total)


def _epochs(models, loss, optimizer, rates, key, source, epochs, total):
    """Yields what `fit_many` does."""
    run_block, given = _compiled(models[0], optimizer)
    states = [create_state(model, optimizer(rate)) for model, rate in zip(models, rates, strict=True)]
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    with contextlib.closing(source):
        for _ in range(epochs):
            state = jax.tree.map(jnp.copy, state)  # blocks take over the memory of the state, but not of the caller's
            of_blocks, steps = [], 0
            while steps < total:
                block = next(source)
                state, sums = run_block(state, rates, loss, given, key, block)
                of_blocks.append(jax.device_get(sums))  # waits, so that blocks do not queue up on the device
                steps += sums["examples"].shape[1]
                del block
            yield state, _means(of_blocks)


def _compiled(model: nnx.Module, optimizer) -> tuple[Callable, Given]:
    """Returns the step of all replicas over a block, and the arrays of the model that it takes."""
    given, model_of = take_apart(model)

    def run_block(state, rates, loss, given, key, block):
        def of_one(state, rate):
            return train_block(state, block, loss, model_of(given), optimizer(rate), key)

        return jax.vmap(of_one)(state, rates)

    return jax.jit(run_block, donate_argnums=0), given


def _means(of_blocks: list[dict[str, Float[np.ndarray, "R _"]]]) -> Means:
    """Returns the means over the epoch, see `train.means`."""
    return means({name: sum(np.sum(b[name], axis=1, dtype=np.float64) for b in of_blocks) for name in of_blocks[0]})
