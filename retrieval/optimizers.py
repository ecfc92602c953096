"""Optimizers by their optax names."""

from __future__ import annotations

import inspect

import optax

from retrieval.suggestions import did_you_mean


def create(name: str, learning_rate: float, **arguments: float) -> optax.GradientTransformation:
    """Returns optax's optimizer of that name, e.g. create("adagrad", 0.1, eps=1e-7).

    Raises:
      ValueError: optax has no such optimizer, or it does not take one of the arguments.
    """
    optimizers = _optimizers()
    if name not in optimizers:
        raise ValueError(f"optax has no optimizer {name!r}{did_you_mean(name, optimizers)}")
    parameters = inspect.signature(optimizers[name]).parameters
    for argument in arguments:
        if argument not in parameters:
            raise ValueError(f"optax.{name} has no argument {argument!r}{did_you_mean(argument, parameters)}")
    return optimizers[name](learning_rate, **arguments)


def _optimizers() -> dict[str, object]:
    members = inspect.getmembers(optax, inspect.isfunction)
    return {
        name: function
        for name, function in members
        if not name.startswith(("_", "scale_by"))
        and next(iter(inspect.signature(function).parameters), "") == "learning_rate"
    }
