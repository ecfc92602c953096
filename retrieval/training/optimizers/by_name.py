"""Optimizers by their optax names, and those that update only the rows of tables that a batch touches."""

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
    """An optax optimizer that `train_step` applies to the rows of embedding tables that a batch looks up, not to all.

    The step then costs the same whatever the number of rows. Wrap one with `TouchedRows(*optimizer)`. Where a zero
    gradient changes neither the parameter nor the state (Adagrad, plain SGD) the result is that of the dense update;
    where it does (momentum, Adam) it is another rule, often called lazy.
    """


class RowwiseAdagradState(NamedTuple):
    """The sums of squares: one for each row of a matrix, one for each entry of other parameters."""

    sum_of_squares: Any


def create(name: str, learning_rate: float | Float[Array, ""], **arguments: float) -> optax.GradientTransformation:
    """Returns optax's optimizer of that name, e.g. create("adagrad", 0.1, eps=1e-7), or one of this module.

    Adagrad and SGD without momentum come as `TouchedRows`, which changes nothing but their cost.

    Raises:
      ValueError: there is no such optimizer, or it does not take one of the arguments.
    """
    optimizers = _optimizers()
    if name not in optimizers:
        raise ValueError(f"optax has no optimizer {name!r}{did_you_mean(name, optimizers)}")
    parameters = inspect.signature(optimizers[name]).parameters
    for argument in arguments:
        if argument not in parameters:
            raise ValueError(f"optax.{name} has no argument {argument!r}{did_you_mean(argument, parameters)}")
    optimizer = optimizers[name](learning_rate, **arguments)
    exact = name == "adagrad" or (name == "sgd" and not arguments.get("momentum"))
    return TouchedRows(*optimizer) if exact else optimizer


def chained(
    rule: optax.GradientTransformation,
    before: Sequence[optax.GradientTransformation] = (),
    after: Sequence[optax.GradientTransformation] = (),
) -> optax.GradientTransformation:
    """Returns the rule with what shapes the gradients before it and the updates after it; `TouchedRows` where it is.

    With `TouchedRows`, what stands beside the rule must leave a row without a gradient as it is: clipping, schedules,
    `row_penalty` and `decay_matrices` do.
    """
    if not before and not after:
        return rule
    whole = optax.chain(*before, rule, *after)
    return TouchedRows(*whole) if isinstance(rule, TouchedRows) else whole


def rowwise_adagrad(
    learning_rate: float | Float[Array, ""], initial_accumulator_value: float = 0.1, eps: float = 1e-7
) -> TouchedRows:
    """Returns Adagrad with one accumulator for each row of a matrix: the mean of the row's squared gradients is added.

    A table of N embeddings of D dimensions needs N accumulators instead of N D (Naumov et al. 2019, "Deep Learning
    Recommendation Model"; "exact row-wise Adagrad" in FBGEMM).

    Args:
      learning_rate: step size.
      initial_accumulator_value: where the accumulators start.
      eps: added to the accumulator under the root.
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
    """Returns Adam whose moments move only in the rows that a batch touches.

    It is not Adam: there, a row goes on moving by its moments while no batch touches it, and its moments decay. The
    bias correction counts all steps, as in TensorFlow Addons' LazyAdam.

    Args:
      learning_rate: step size.
      b1: decay of the first moment.
      b2: decay of the second moment.
      eps: added to the root of the second moment.
    """
    return TouchedRows(*optax.adam(learning_rate, b1=b1, b2=b2, eps=eps))


def _optimizers() -> dict[str, Callable[..., optax.GradientTransformation]]:
    members = inspect.getmembers(optax, inspect.isfunction)
    of_optax = {
        name: function
        for name, function in members
        if not name.startswith(("_", "scale_by"))
        and next(iter(inspect.signature(function).parameters), "") == "learning_rate"
        and name != "lbfgs"  # its update needs the value of the loss
    }
    return of_optax | {"rowwise_adagrad": rowwise_adagrad, "lazy_adam": lazy_adam}
