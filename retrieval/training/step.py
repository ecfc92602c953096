"""The state of a training, one optimizer step, and a scan over a block of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from retrieval.batching.batch import Batch
from retrieval.models.binding import Params, bind, init
from retrieval.training.optimizers import parameter_average, touched_rows
from retrieval.training.optimizers.by_name import TouchedRows

# (model, batch) -> the value to minimise, and sums to log, whose denominators `epoch_sums.means` describes. A loss is a
# pytree, so that its arrays are arguments of the compiled step, not constants in it.
Loss = Callable[[nnx.Module, Batch], tuple[Float[Array, ""], dict[str, Float[Array, ""]]]]


class TrainState(NamedTuple):
    """Everything that a training step changes.

    Attributes:
      step: number of optimizer steps so far.
      params: the parameters of the model.
      opt_state: the state of the optimizer.
    """

    step: Int[Array, ""]
    params: Params
    opt_state: optax.OptState

    @property
    def kept(self) -> Params:
        """The parameters to evaluate and to save: `params`, or their EMA with an optimizer of `averaged`."""
        return parameter_average.averaged_params(self.opt_state, self.params)


def create_state(model: nnx.Module, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first step, with the initial parameters of the model."""
    params = init(model)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(_widen(params)))


def train_step(
    state: TrainState,
    batch: Batch,
    loss: Loss,
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""] | None = None,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Returns the state after one optimizer step on the batch, and the logged sums of the loss before the step.

    With a `TouchedRows` optimizer and a loss that has `lookups` (see `Objective.lookups`), a step reads and writes only
    the rows of the embedding tables that the loss looks up: its time and memory depend on the batch, not on the number
    of rows. To update the state in place, donate it to the compiled step: `jax.jit(..., donate_argnums=0)`.

    Args:
      state: the state before the step.
      batch: one batch, without a leading axis.
      loss: the objective to minimise.
      model: the model that the parameters belong to.
      optimizer: the optimizer that created `state.opt_state`.
      key: random key of the training; randomness such as dropout is a function of `key` and `state.step`. None: no
        randomness.
    """
    lookups = {}
    if isinstance(optimizer, TouchedRows) and hasattr(loss, "lookups"):
        lookups = loss.lookups(model, batch)
    # From here on, `params` and `opt_state` hold the touched rows of each table in place of the table: gradients,
    # moments and updates have the size of the batch, and `put` writes the rows back.
    index, state_index = touched_rows.indices(state.params, optimizer, state.opt_state, lookups)
    params, opt_state = touched_rows.take(state.params, index), touched_rows.take(state.opt_state, state_index)

    step_key = None if key is None else jax.random.fold_in(key, state.step)

    def objective(params):
        return loss(bind(model, params, lookups, step_key), batch)

    gradients, sums = jax.grad(objective, has_aux=True)(params)
    wide = _widen(params)
    updates, opt_state = optimizer.update(_widen(gradients), opt_state, wide)
    updated = jax.tree.map(lambda new, old: new.astype(old.dtype), optax.apply_updates(wide, updates), params)
    return TrainState(
        state.step + 1,
        touched_rows.put(state.params, updated, index),
        touched_rows.put(state.opt_state, opt_state, state_index),
    ), sums


def _widen(tree: Params) -> Params:
    """Returns leaves narrower than float32 as float32: in bfloat16 the sums of an optimizer lose small terms."""
    return jax.tree.map(lambda leaf: leaf.astype(np.promote_types(leaf.dtype, np.float32)), tree)


def train_block(
    state: TrainState,
    block: Batch,
    loss: Loss,
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""] | None = None,
) -> tuple[TrainState, dict[str, Float[Array, "steps"]]]:
    """Returns the state after one step on each batch of the block, in order, and the logged sums of each step.

    Arguments as of `train_step`, with a leading axis of steps in the block. The memory of activations and gradients is
    that of one batch.
    """

    def step(state, batch):
        return train_step(state, batch, loss, model, optimizer, key)

    return jax.lax.scan(step, state, block)
