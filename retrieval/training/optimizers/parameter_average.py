"""EMA of the parameters over the steps, evaluated and saved in place of the parameters of the last step."""

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
    """State of an `averaged` optimizer.

    Attributes:
      inner: state of the wrapped optimizer.
      count: number of steps so far.
      average: average of the parameters up to step `last`.
      last: step up to which the average of each row of a table [N], and of each other parameter, is computed; 0: none.
      horizon: number of steps over which the average is the plain mean, before it becomes exponential.
    """

    inner: optax.OptState
    count: Int[Array, ""]
    average: Params
    last: Any
    horizon: Int[Array, ""]


def averaged(optimizer: optax.GradientTransformation, decay: float) -> optax.GradientTransformation:
    """Returns the optimizer with an exponential moving average (EMA) of the parameters in its state.

    After step t, with h = round(1 / (1 - decay)), the average a of the parameters p becomes

        a <- a + (p - a) / min(t, h)

    the plain mean over the first h steps, and an EMA from then on, without bias towards the initial values (Polyak and
    Juditsky 1992, "Acceleration of stochastic approximation by averaging"). The parameters themselves are trained as
    without it; `averaged_params` returns the average.

    With `TouchedRows`, a step costs O(rows of the batch): an untouched row does not move, so the missed steps of its
    average have a closed form, which is applied when the row is next touched or read. Memory is a float32 copy of the
    parameters, and one integer for each row.

    Raises:
      ValueError: the decay is not in (0, 1).
    """
    if not 0 < decay < 1:
        raise ValueError(f"the decay of the average must be in (0, 1), e.g. 0.999, got {decay}")

    def init(params):
        def step_zero(path, leaf):
            return jnp.zeros(leaf.shape[:1] if table_path(path) is not None else (), jnp.int32)

        return AveragedState(
            optimizer.init(params),
            jnp.zeros((), jnp.int32),
            jax.tree.map(jnp.zeros_like, params),
            jax.tree_util.tree_map_with_path(step_zero, params),
            jnp.int32(round(1 / (1 - decay))),
        )

    def update(gradients, state, params):
        updates, inner = optimizer.update(gradients, state.inner, params)
        count = state.count + 1
        share = 1 / jnp.minimum(count, state.horizon).astype(jnp.float32)
        average = _up_to(state.count, state, params)  # `params` are those of every step that a row has missed
        reached = optax.apply_updates(params, updates)
        average = jax.tree.map(lambda mean, new: mean + share * (new - mean), average, reached)
        last = jax.tree.map(lambda steps: jnp.full_like(steps, count), state.last)
        return updates, AveragedState(inner, count, average, last, state.horizon)

    kind = TouchedRows if isinstance(optimizer, TouchedRows) else optax.GradientTransformation
    return kind(init, update)


def averaged_params(opt_state: optax.OptState, params: Params) -> Params:
    """Returns the average of the parameters over the steps, in their dtypes; O(parameters) time.

    Returns `params` themselves before the first step, and for an optimizer without an average.
    """
    if not isinstance(opt_state, AveragedState):
        return params
    wide = jax.tree.map(lambda leaf: leaf.astype(np.promote_types(leaf.dtype, np.float32)), params)
    average = _up_to(opt_state.count, opt_state, wide)
    return jax.tree.map(lambda mean, leaf: mean.astype(leaf.dtype), average, params)


def _up_to(count: Int[Array, ""], state: AveragedState, params: Params) -> Params:
    """Returns the average at step `count` of parameters that have not moved since step `last`."""

    def followed(average, leaf, last):
        # the average moves towards a fixed leaf: average - leaf shrinks by the same factor for all missed steps at once
        left = _share_left(last, count, state.horizon)
        return leaf + left.reshape(left.shape + (1,) * (leaf.ndim - left.ndim)) * (average - leaf)

    return jax.tree.map(followed, state.average, params, state.last)


def _share_left(start: Int[Array, "*N"], stop: Int[Array, ""], horizon: Int[Array, ""]) -> Float[Array, "*N"]:
    """Returns the weight of the average at step `start` in the average at step `stop`, in O(1) time a row.

    The weight is the product of 1 - 1 / min(t, h) over the steps t = start + 1 ... stop. Up to step h it telescopes,
    prod (t - 1) / t = start / stop; the steps after h contribute the power (1 - 1 / h)^(stop - max(start, h)).
    """
    first, last = (jnp.minimum(step, horizon).astype(jnp.float32) for step in (start, stop))
    exponent = jnp.maximum(stop, horizon) - jnp.maximum(start, horizon)
    decay = 1 - 1 / horizon.astype(jnp.float32)
    return first / jnp.maximum(last, 1.0) * decay ** exponent.astype(jnp.float32)
