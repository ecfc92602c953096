"""The state of a training, one optimizer step, and a block of steps as one compiled program."""

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

# What `fit` minimises: (model, batch) -> the value, and sums to log; see `epoch_sums.means` for their denominators. A
# pytree, so that the arrays in it are arguments of the compiled step.
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

    @property
    def kept(self) -> Params:
        """The parameters to evaluate and to keep: `params`, or their average where the optimizer is `averaged`."""
        return parameter_average.averaged_params(self.opt_state, self.params)


def create_state(model: nnx.Module, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first step, with the model's own parameters."""
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
    """Returns the state after one optimizer step on the batch, and the loss's sums before it.

    With an optimizer of `TouchedRows`, only the rows that the loss looks up are read and written, where it tells which
    by `lookups`, see `Objective.lookups`: time and memory then depend on the batch, not on the number of rows. Donate
    the state to the compiled step (`jax.jit(..., donate_argnums=0)`) to have it updated in place.

    What is random in training, as dropout, is a function of `key` and the number of the step; without a key nothing is.
    """
    lookups = {}
    if isinstance(optimizer, TouchedRows) and hasattr(loss, "lookups"):
        lookups = loss.lookups(model, batch)
    index, state_index = touched_rows.indices(state.params, optimizer, state.opt_state, lookups)
    params, opt_state = touched_rows.take(state.params, index), touched_rows.take(state.opt_state, state_index)

    of_step = None if key is None else jax.random.fold_in(key, state.step)

    def objective(params):
        return loss(bind(model, params, lookups, of_step), batch)

    gradients, sums = jax.grad(objective, has_aux=True)(params)
    wide = _widen(params)
    updates, opt_state = optimizer.update(_widen(gradients), opt_state, wide)
    moved = jax.tree.map(lambda new, old: new.astype(old.dtype), optax.apply_updates(wide, updates), params)
    return TrainState(
        state.step + 1,
        touched_rows.put(state.params, moved, index),
        touched_rows.put(state.opt_state, opt_state, state_index),
    ), sums


def _widen(tree: Params) -> Params:
    """Returns the leaves as float32 where they are narrower: the optimizer's sums must not lose small terms."""
    return jax.tree.map(lambda leaf: leaf.astype(np.promote_types(leaf.dtype, np.float32)), tree)


def train_block(
    state: TrainState,
    block: Batch,
    loss: Loss,
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""] | None = None,
) -> tuple[TrainState, dict[str, Float[Array, "steps"]]]:
    """Returns the state after a step on each batch of the block in turn, and the loss's sums of each step.

    One batch of logits is held at a time.
    """

    def step(state, batch):
        return train_step(state, batch, loss, model, optimizer, key)

    return jax.lax.scan(step, state, block)
