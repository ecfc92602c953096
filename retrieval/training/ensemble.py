"""Vmapped ensemble: replicas of a model with other initial values and learning rates, trained as one program."""

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

    Up to rounding, replica r ends as a run of `fit` with model r, learning rate r and the other arguments. All replicas
    see the same batches and the same random draws: the spread over replicas is that of the initial values. A replica
    that diverges has means that are not finite, and does not affect the others.

    Time and memory are those of R trainings, except for batches, kernel launches and compilation, which are paid once.
    It is faster than R runs of `fit` if one step leaves the device partly idle, or if compiled programs are not cached
    on disk; two CPU cores that one step keeps busy take somewhat longer.

    Args:
      models: R models of one structure; arrays beside the parameters must be equal, and are taken from the first.
      examples: the training examples, [n] a column.
      loss: the objective to minimise, see `retrieval.objectives`.
      optimizer: creates the optimizer of a learning rate, e.g. `functools.partial(by_name.create, "adagrad")`.
      learning_rates: learning rate of each replica, R.
      batch_size: examples a step.
      epochs: number of epochs.
      seed: seed of the order of the examples, of the draws of negatives, and of randomness in the models.
      placement: see `fit`.
      negatives: see `fit`.

    Raises:
      ValueError: the numbers of models and learning rates differ, models have different shapes, `batch_size` exceeds
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
    """Yields the results of `fit_many`, which checks its arguments before the first `next`."""
    run_block, given = _compiled(models[0], optimizer)
    states = [create_state(model, optimizer(rate)) for model, rate in zip(models, rates, strict=True)]
    state = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    with contextlib.closing(source):
        for _ in range(epochs):
            state = jax.tree.map(
                jnp.copy, state
            )  # the program reuses the memory of its state; the caller keeps its own
            block_sums, steps = [], 0
            while steps < total:
                block = next(source)
                state, sums = run_block(state, rates, loss, given, key, block)
                block_sums.append(jax.device_get(sums))  # waits: at most one block is queued on the device
                steps += sums["examples"].shape[1]
                del block
            yield state, _means(block_sums)


def _compiled(model: nnx.Module, optimizer) -> tuple[Callable, Given]:
    """Returns the compiled block of steps of all replicas, and the arrays of the model that are arguments of it."""
    given, model_of = take_apart(model)

    def run_block(state, rates, loss, given, key, block):
        def replica(state, rate):
            return train_block(state, block, loss, model_of(given), optimizer(rate), key)

        return jax.vmap(replica)(state, rates)

    return jax.jit(run_block, donate_argnums=0), given


def _means(blocks: list[dict[str, Float[np.ndarray, "R _"]]]) -> Means:
    """Returns the means over the epoch, see `epoch_sums.means`."""
    return means({name: sum(np.sum(sums[name], axis=1, dtype=np.float64) for sums in blocks) for name in blocks[0]})
