"""Training: a pure step, an epoch as one compiled program, and a generator over epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from retrieval import touched
from retrieval.data.batches import Batch, batches, epoch_order, num_batches
from retrieval.data.encoding import Examples
from retrieval.models.two_tower import Params, bind, init
from retrieval.optimizers import TouchedRows

# What `fit` minimises: (model, batch) -> the value, and sums to log, which "examples" among them divides. A pytree, so
# that the arrays in it are arguments of the compiled step.
Loss = Callable[[nnx.Module, Batch], tuple[Float[Array, ""], dict[str, Float[Array, ""]]]]


class TrainState(NamedTuple):
    """All that training changes.

    Attributes:
      step: optimizer steps taken.
      params: the model's parameters.
      opt_state: the optimizer's state.
    """

    step: Int[Array, ""]
    params: Params
    opt_state: optax.OptState


def create_state(model: nnx.Module, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first step, with the model's own parameters."""
    params = init(model)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(_widen(params)))


def train_step(
    state: TrainState, batch: Batch, loss: Loss, model: nnx.Module, optimizer: optax.GradientTransformation
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Returns the state after one optimizer step on the batch, and the loss's sums before it.

    With an optimizer of `TouchedRows`, only the rows that the batch looks up are read and written, where the model
    tells which by `lookups`: time and memory then depend on the batch, not on the number of rows. Donate the state to
    the compiled step (`jax.jit(..., donate_argnums=0)`) to have it updated in place.
    """
    lookups = {}
    if isinstance(optimizer, TouchedRows) and hasattr(model, "lookups"):
        lookups = model.lookups(batch.queries.rows, batch.candidates.rows)
    index, state_index = touched.indices(state.params, optimizer, state.opt_state, lookups)
    params, opt_state = touched.take(state.params, index), touched.take(state.opt_state, state_index)

    def objective(params):
        return loss(bind(model, params, lookups), batch)

    gradients, sums = jax.grad(objective, has_aux=True)(params)
    wide = _widen(params)
    updates, opt_state = optimizer.update(_widen(gradients), opt_state, wide)
    moved = jax.tree.map(lambda new, old: new.astype(old.dtype), optax.apply_updates(wide, updates), params)
    return TrainState(
        state.step + 1,
        touched.put(state.params, moved, index),
        touched.put(state.opt_state, opt_state, state_index),
    ), sums


def _widen(tree: Params) -> Params:
    """Returns the leaves as float32 where they are narrower: the optimizer's sums must not lose small terms."""
    return jax.tree.map(lambda leaf: leaf.astype(np.promote_types(leaf.dtype, np.float32)), tree)


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
) -> Iterator[tuple[TrainState, dict[str, float]]]:
    """Trains for `epochs` epochs and yields the state and the mean of each logged sum after each.

    An epoch is one compiled program, which holds one batch of logits at a time. Given the same arguments, a run
    that continues from a yielded `state` yields the same as the run that went on.

    Args:
      model: the model whose parameters are trained.
      examples: the training examples, [n] a column.
      loss: what is minimised.
      optimizer: any optax optimizer.
      batch_size: examples a step; the last step of an epoch takes what is left.
      epochs: number of epochs from the beginning, those in `state` included.
      seed: of the order of the examples.
      state: where to continue; None: at the model's own parameters.

    Raises:
      ValueError: `batch_size` exceeds the number of examples.
      FloatingPointError: the loss is no longer finite.
    """
    num_examples = len(examples.query_rows)
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"batch_size must be in [1, {num_examples}], the number of training examples, got {batch_size}"
        )
    state = create_state(model, optimizer) if state is None else state
    return _epochs(model, examples, loss, optimizer, batch_size, epochs, seed, state)


def _epochs(model, examples, loss, optimizer, batch_size, epochs, seed, state):
    """Yields what `fit` does; a generator of its own, so that `fit` refuses its arguments before the first epoch."""
    num_examples = len(examples.query_rows)

    @jax.jit
    def run_epoch(state, loss, epoch_batches):
        def step(state, batch):
            return train_step(state, batch, loss, model, optimizer)

        state, sums = jax.lax.scan(step, state, epoch_batches)
        return state, jax.tree.map(jnp.sum, sums)

    def batches_of(epoch, capacity=(0, 0)):
        order = epoch_order(num_examples, seed=seed, epoch=epoch)
        return batches(examples, order, batch_size, capacity)

    first = batches_of(0)
    # Padding can change the rounding of sums: where a run starts must not change the shapes of its batches.
    capacity = (first.queries.rows.shape[1], first.candidates.rows.shape[1])
    for epoch in range(_epochs_done(state, num_examples, batch_size), epochs):
        state, sums = run_epoch(state, loss, batches_of(epoch, capacity) if epoch else first)
        yield state, _means(sums, epoch)


def best_epoch(history: Sequence[float]) -> int:
    """Returns the index of the highest value, the first of equals; NaN never wins.

    >>> best_epoch([0.1, 0.3, float("nan"), 0.3])
    1
    """
    return int(np.argmax(np.nan_to_num(np.asarray(history, np.float64), nan=-np.inf)))


def should_stop(history: Sequence[float], patience: int) -> bool:
    """Tells whether the last `patience` values did not raise the best one before them; patience 0: never."""
    return 0 < patience < len(history) and len(history) - 1 - best_epoch(history) >= patience


def _epochs_done(state: TrainState, num_examples: int, batch_size: int) -> int:
    return int(state.step) // num_batches(num_examples, batch_size)


def _means(sums: dict[str, Float[Array, ""]], epoch: int) -> dict[str, float]:
    values = {name: float(value) for name, value in sums.items()}
    count = values.pop("examples")
    if not all(np.isfinite(value) for value in values.values()):
        raise FloatingPointError(
            f"the loss is not finite in epoch {epoch + 1}: {values}; lower the learning rate, or look for "
            f"extreme weights in the data"
        )
    return {name: value / count for name, value in values.items()}
