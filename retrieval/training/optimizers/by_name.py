"""Optimizers by their optax names, and touched-row (lazy) optimizers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from retrieval.common.choices import did_you_mean


class TouchedRows(optax.GradientTransformation):
    """An optax optimizer that `train_step` applies only to the rows of embedding tables that a batch looks up.

    The time of a step then does not depend on the number of rows. Wrap any optimizer: `TouchedRows(*optimizer)`. If a
    gradient of 0 changes neither the parameter nor the state (Adagrad, SGD without momentum), the result equals the
    dense update. Otherwise (momentum, Adam) it is another rule, known as a lazy update: rows outside the batch neither
    move nor decay.
    """


class RowwiseAdagradState(NamedTuple):
    """State of `rowwise_adagrad`.

    Attributes:
      sum_of_squares: accumulators, one for each row of a matrix [N], one for each entry of other parameters.
    """

    sum_of_squares: Any


def create(name: str, learning_rate: float | Float[Array, ""], **arguments: float) -> optax.GradientTransformation:
    """Creates an optimizer by its name in optax or in this module, e.g. `create("adagrad", 0.1, eps=1e-7)`.

    Adagrad and SGD without momentum are returned as `TouchedRows`, which changes their cost but not their result.

    Args:
      name: "rowwise_adagrad", "lazy_adam", or a function of optax whose first argument is `learning_rate`.
      learning_rate: the step size; may be traced.
      **arguments: further arguments of the optimizer.

    Raises:
      ValueError: the name is unknown, or the optimizer has no argument of that name.
    """
    optimizers = _optimizers()
    if name not in optimizers:
        raise ValueError(f"optax has no optimizer {name!r}{did_you_mean(name, optimizers)}")
    parameters = inspect.signature(optimizers[name]).parameters
    for argument in arguments:
        if argument not in parameters:
            raise ValueError(f"optax.{name} has no argument {argument!r}{did_you_mean(argument, parameters)}")
    optimizer = optimizers[name](learning_rate, **arguments)
    is_exact = name == "adagrad" or (name == "sgd" and not arguments.get("momentum"))
    return TouchedRows(*optimizer) if is_exact else optimizer


def chained(
    rule: optax.GradientTransformation,
    before: Sequence[optax.GradientTransformation] = (),
    after: Sequence[optax.GradientTransformation] = (),
) -> optax.GradientTransformation:
    """Chains transformations of gradients, an optimizer, and transformations of its updates.

    The chain is `TouchedRows` if the optimizer is. Each transformation must then leave rows with a gradient of 0
    unchanged, as gradient clipping, schedules, `row_penalty` and `decay_matrices` do.

    Args:
      rule: the optimizer.
      before: transformations of the gradients, in order.
      after: transformations of the updates, in order.
    """
    if not before and not after:
        return rule
    whole = optax.chain(*before, rule, *after)
    return TouchedRows(*whole) if isinstance(rule, TouchedRows) else whole


def rowwise_adagrad(
    learning_rate: float | Float[Array, ""], initial_accumulator_value: float = 0.1, eps: float = 1e-7
) -> TouchedRows:
    """Returns Adagrad with one accumulator for each row of a matrix, to which the row's mean squared gradient is added.

    A table of N embeddings of D dimensions needs N accumulators instead of N D (Naumov et al. 2019, "Deep learning
    recommendation model for personalization and recommendation systems"; "exact row-wise Adagrad" in FBGEMM):

        a_i <- a_i + mean_d g_id^2,    w_id <- w_id - learning_rate * g_id / sqrt(a_i + eps)

    Args:
      learning_rate: the step size.
      initial_accumulator_value: initial value of the accumulators.
      eps: added to the accumulators under the root.
    """

    def init(params):
        def initial(leaf):
            return jnp.full(leaf.shape[:1] if leaf.ndim == 2 else leaf.shape, initial_accumulator_value, leaf.dtype)

        return RowwiseAdagradState(jax.tree.map(initial, params))

    def accumulate(gradient, total):
        return total + (jnp.mean(gradient**2, axis=1) if gradient.ndim == 2 else gradient**2)

    def scale(gradient, total):
        step = -learning_rate * jax.lax.rsqrt(total + eps)
        return gradient * (step[:, None] if gradient.ndim == 2 else step)

    def update(gradients, state, params=None):
        del params
        totals = jax.tree.map(accumulate, gradients, state.sum_of_squares)
        return jax.tree.map(scale, gradients, totals), RowwiseAdagradState(totals)

    return TouchedRows(init, update)


def lazy_adam(
    learning_rate: float | Float[Array, ""], b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> TouchedRows:
    """Returns Adam that updates moments and parameters only in the rows that a batch touches.

    It differs from Adam, where a row keeps moving by its moments, and these decay, while no batch touches it. The bias
    correction counts all steps, not those of the row, as LazyAdam of TensorFlow Addons does.

    Args:
      learning_rate: the step size.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the root of the second moment.
    """
    return TouchedRows(*optax.adam(learning_rate, b1=b1, b2=b2, eps=eps))


def _optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
    """Returns the functions of optax that create an optimizer from a learning rate, and those of this module."""
    members = inspect.getmembers(optax, inspect.isfunction)
    optax_optimizers = {
        name: function
        for name, function in members
        if not name.startswith(("_", "scale_by"))
        and next(iter(inspect.signature(function).parameters), "") == "learning_rate"
        and name != "lbfgs"  # its update needs the loss function
    }
    return optax_optimizers | {"rowwise_adagrad": rowwise_adagrad, "lazy_adam": lazy_adam}
