"""Parameters as a plain nested dict, and models bound to parameters, to rows of tables and to random keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Int, Key

Params = dict[str, Any]  # nested dict of arrays
Given = Any  # pytree of a model's arrays that are not parameters
Lookups = dict[str, Int[Array, "_"]]  # path of a table in the model -> the distinct rows that a batch looks up


def init(model: nnx.Module) -> Params:
    """Returns a copy of the model's initial parameters."""
    return nnx.to_pure_dict(nnx.state(model, nnx.Param))


def bind(
    model: nnx.Module, params: Params, held: Lookups | None = None, key: Key[Array, ""] | None = None
) -> nnx.Module:
    """Returns a copy of the model with `params` in place of its own parameters; works under `jax.jit`.

    Args:
      model: the model, which gives the structure and the arrays that are not parameters.
      params: the parameters.
      held: rows that `params` holds of a table, by the table's path; tables without an entry are whole.
      key: random key of dropout and noise: each module with a `key` gets a key of its own. None: no module is random,
        as in evaluation.

    Raises:
      ValueError: a parameter is missing or unknown, or its shape is not the model's.
    """
    held = {} if held is None else held
    graph, own, rest = nnx.split(model, nnx.Param, ...)
    expected, received = _shapes(nnx.to_pure_dict(own)), _shapes(params)
    for path, rows in held.items():
        expected[f"{path}/embedding"] = (len(rows), *expected[f"{path}/embedding"][1:])
    for path in sorted(expected.keys() | received.keys()):  # `nnx.merge` accepts misspelt and misshapen leaves
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
        # A Dict has its entries as attributes, and one of them may be called "key".
        random = [m for _, m in nnx.iter_modules(bound) if hasattr(m, "key") and not isinstance(m, nnx.Dict)]
        for i, module in enumerate(random):
            module.key = nnx.data(jax.random.fold_in(key, i))
    return bound


def take_apart(model: nnx.Module) -> tuple[Given, Callable[[Given], nnx.Module]]:
    """Returns the model's arrays that are not parameters, and a function that builds the model from such arrays.

    A compiled function should take these arrays as an argument and build the model inside. A model that the function
    closes over would have its arrays copied into the program as constants, which is large and slow to compile for
    tables of features.
    """
    graph, own, given = nnx.split(model, nnx.Param, ...)
    return given, lambda given: nnx.merge(graph, own, given)


def _shapes(params: Params) -> dict[str, tuple[int, ...]]:
    return {path: np.shape(leaf) for path, leaf in flatten_params(params).items()}


def flatten_params(params: Params) -> dict[str, Any]:
    """Returns the leaves by path, as "query_tower/embedding/embedding"."""
    leaves, _ = jax.tree.flatten_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}
