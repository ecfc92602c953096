"""The parameters of a model as a plain nested dict, and models bound to parameters, rows and random keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Int, Key

Params = dict[str, Any]  # nested dict of arrays
Given = Any  # pytree of the arrays of a model that are no parameters
Lookups = dict[str, Int[Array, "_"]]  # path of a table in the model -> the distinct rows that are looked up


def init(model: nnx.Module) -> Params:
    """Returns a copy of the model's initial parameters."""
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def bind(
    model: nnx.Module, params: Params, held: Lookups | None = None, key: Key[Array, ""] | None = None
) -> nnx.Module:
    """Returns the model with `params` in place of its own parameters; works under `jax.jit`.

    Args:
      model: gives the structure, and what is no parameter.
      params: the parameters.
      held: paths of tables of which `params` has only some rows, and those rows.
      key: makes the modules that have a `key` random, each in its own way; None: nothing is, as in evaluation.

    Raises:
      ValueError: a parameter is missing, unknown, or of another shape than the model's.
    """
    held = {} if held is None else held
    graph, own, rest = nnx.split(model, nnx.Param, ...)
    expected, received = _shapes(nnx.to_pure_dict(own)), _shapes(params)
    for path, rows in held.items():
        expected[f"{path}/embedding"] = (len(rows), *expected[f"{path}/embedding"][1:])
    for path in sorted(expected.keys() | received.keys()):
        if expected.get(path) != received.get(path):
            raise ValueError(
                f"parameter {path}: the model has {expected.get(path, 'none of that name')}, "
                f"received {received.get(path, 'none of that name')}"
            )
    nnx.replace_by_pure_dict(own, params)
    bound = nnx.merge(graph, own, rest)
    for path, module in nnx.iter_modules(bound):
        if (rows := held.get("/".join(map(str, path)))) is not None:
            module.hold(rows)
    if key is not None:
        # The attributes of a Dict are its entries, of any name.
        random = [m for _, m in nnx.iter_modules(bound) if hasattr(m, "key") and not isinstance(m, nnx.Dict)]
        for i, module in enumerate(random):
            module.key = nnx.data(jax.random.fold_in(key, i))
    return bound


def take_apart(model: nnx.Module) -> tuple[Given, Callable[[Given], nnx.Module]]:
    """Returns the arrays of the model that are no parameters, and a function that makes the model of such arrays.

    A compiled function takes them as an argument and makes the model inside; a model that it merely refers to would
    have its arrays copied into the program, which tables of features make large and slow to compile.
    """
    graph, own, given = nnx.split(model, nnx.Param, ...)
    return given, lambda given: nnx.merge(graph, own, given)


def _shapes(params: Params) -> dict[str, tuple[int, ...]]:
    return {path: np.shape(leaf) for path, leaf in flatten_params(params).items()}


def flatten_params(params: Params) -> dict[str, Any]:
    """Returns the leaves by their paths, as "query_tower/embedding/embedding"."""
    leaves, _ = jax.tree.flatten_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
