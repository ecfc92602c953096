"""The average of the parameters over the steps, which is evaluated and kept instead of those of the last step."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from retrieval.models.binding import Params
from retrieval.models.embedding_table import table_path
from retrieval.training.optimizers.by_name import TouchedRows


class AveragedState(NamedTuple):
    """The state of an `averaged` optimizer.

    Attributes:
      inner: that of the optimizer itself.
      count: steps taken.
      average: of the parameters, as far as step `last`.
      last: the step up to which the average of each row of a table [N], or of each other parameter, is taken; 0: of
        none.
      horizon: steps of which the average is the plain mean, before it becomes exponential.
    """

    inner: optax.OptState
    count: Int[Array, ""]
    average: Params
    last: Any
    horizon: Int[Array, ""]


def averaged(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Returns the optimizer with an average of the parameters in its state, see `averaged_params`.

    After step t the average moves by a share 1 / min(t, h) towards the parameters, h = 1 / (1 - decay) rounded: it is
    their mean over the first h steps, and an exponential moving average from then on, with no bias towards the initial
    values (Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging"). Training itself does
    not change.

    With `TouchedRows` a step costs the batch's rows: a row that it does not touch stays where it is, so that the steps
    in which its average follows it can be made up for, all at once, when it is touched or read. Memory is that of the
    parameters, in float32, and a number for each row.

    Raises:
      ValueError: the decay is not in (0, 1).
    """
    if not 0 < decay < 1:
        raise ValueError(f"the decay of the average must be in (0, 1), as 0.999, got {decay}")

    def init(params):
        def never(path, leaf):
            return jnp.zeros(leaf.shape[:1] if table_path(path) is not None else (), jnp.int32)

        return AveragedState(
            optimizer.init(params),
            jnp.zeros((), jnp.int32),
            jax.tree.map(jnp.zeros_like, params),
            jax.tree_util.tree_map_with_path(never, params),
            jnp.int32(round(1 / (1 - decay))),
        )

    def update(gradients, state, params):
        updates, inner = optimizer.update(gradients, state.inner, params)
        count = state.count + 1
        share = 1 / jnp.minimum(count, state.horizon).astype(jnp.float32)
        before = _up_to(state.count, state, params)
        reached = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda old, new: old + share * (new - old), before, reached)
        last = jax.tree.map(lambda steps: jnp.full_like(steps, count), state.last)
        return updates, AveragedState(inner, count, average, last, state.horizon)

    kind = TouchedRows if isinstance(optimizer, TouchedRows) else optax.GradientTransformation
    return kind(init, update)


def averaged_params(opt_state: optax.OptState, params: Params) -> Params:
    """Returns the average of the parameters over the steps, in their types; of an optimizer not `averaged`, `params`.

    Before the first step it is `params` too. O(parameters) time.
    """
    if not isinstance(opt_state, AveragedState):
        return params
    wide = jax.tree.map(lambda leaf: leaf.astype(np.promote_types(leaf.dtype, np.float32)), params)
    average = _up_to(opt_state.count, opt_state, wide)
    return jax.tree.map(lambda mean, leaf: mean.astype(leaf.dtype), average, params)


def _up_to(count: Int[Array, ""], state: AveragedState, params: Params) -> Params:
    """Returns the average up to step `count` of parameters that have not moved since step `last`."""

    def followed(average, leaf, last):
        left = _share_left(last, count, state.horizon)
        return leaf + left.reshape(left.shape + (1,) * (leaf.ndim - left.ndim)) * (average - leaf)

    return jax.tree.map(followed, state.average, params, state.last)


def _share_left(start: Int[Array, "*N"], stop: Int[Array, ""], horizon: Int[Array, ""]) -> Float[Array, "*N"]:
    """Returns the share that the average at step `start` has in that at step `stop`, O(1) a row.

    It is the product of 1 - 1 / min(t, h) over the steps t between: start / stop as far as step h, from then on a power
    of 1 - 1 / h.
    """
    first, last = (jnp.minimum(step, horizon).astype(jnp.float32) for step in (start, stop))
    exponent = jnp.maximum(stop, horizon) - jnp.maximum(start, horizon)
    decay = 1 - 1 / horizon.astype(jnp.float32)
    return first / jnp.maximum(last, 1.0) * decay ** exponent.astype(jnp.float32)
