"""Towers as StableHLO programs, which run without the model's code, and the arrays that they read.

The arrays of a model are inputs of its program, by name, and are stored beside it. Constants would be compiled into the
program anew for each batch size, and a program cannot have more than 2 GiB.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jax.tree_util import Partial
from jaxtyping import Array, Float, Float32, Int, Shaped

from retrieval.features import TABLE

PLATFORMS = ("cpu", "cuda", "tpu")

Arrays = Mapping[str, Shaped[Array, "..."]]
Columns = Mapping[str, Shaped[np.ndarray, "n ..."]]
Tower = Callable[..., Float[Array, "B D"]]

_REAL = np.bool_, np.floating, *(np.dtype(f"{sign}{size}") for sign in "iu" for size in (1, 2, 4, 8))


def lift(tree: Any) -> tuple[Arrays, Callable[[Arrays], Any]]:
    """Takes the arrays out of a pytree, such as a model or a `jax.tree_util.Partial`.

    NumPy arrays stay in the tree, as code may read them as constants, and so do PRNG keys and complex numbers.

    Returns:
      The arrays by name, each once, even if several leaves share it; and a function that makes the tree from arrays of
      these names.
    """
    leaves, structure = jax.tree.flatten(tree)
    names: dict[int, str] = {}
    leaf_names = [names.setdefault(id(leaf), f"parameter_{len(names)}") if _is_real(leaf) else None for leaf in leaves]

    def join(arrays: Arrays) -> Any:
        return structure.unflatten(
            [leaf if name is None else arrays[name] for name, leaf in zip(leaf_names, leaves, strict=True)]
        )

    return {name: leaf for name, leaf in zip(leaf_names, leaves, strict=True) if name is not None}, join


def _is_real(leaf: Any) -> bool:
    """Tells whether a leaf is a JAX array that `.npy` files and TensorFlow can hold, if need be as integers."""
    return isinstance(leaf, jax.Array) and any(jnp.issubdtype(leaf.dtype, kind) for kind in _REAL)


def export_towers(
    towers: Mapping[str, tuple[Tower, Columns]],
) -> tuple[dict[str, bytes], dict[str, Shaped[np.ndarray, "..."]]]:
    """Exports towers as serialised StableHLO programs for cpu, cuda and tpu and any batch size.

    A program takes arrays by name, rows [B], and columns by name as keyword arguments.

    Args:
      towers: by name, a pytree that maps rows [B], and columns as keyword arguments, to embeddings [B, D]; and example
        columns, with any number of rows, whose names, types and shapes the program takes. Bags of table rows may have
        any width.

    Returns:
      The programs by name, and by name the arrays of the towers that a program reads.
    """
    arrays, join = lift({name: tower for name, (tower, _) in towers.items()})
    programs: dict[str, bytes] = {}
    read: set[str] = set()
    for name, (_, columns) in towers.items():
        call = _program(name, arrays, join)
        rows, like = _symbolic(columns)
        # by shape and type alone: the devices that parameters lie on would go into the program
        specs = {array: jax.ShapeDtypeStruct(value.shape, value.dtype) for array, value in arrays.items()}
        read_specs = {array: specs[array] for array in _read(call, specs, rows, like)}
        with _without_locations():
            program = jax_export.export(jax.jit(call), platforms=PLATFORMS)(read_specs, rows, **like)
        programs[name] = bytes(program.serialize())
        read |= set(read_specs)
    return programs, {name: _to_numpy(arrays[name]) for name in sorted(read)}


def _program(name: str, arrays: Arrays, join: Callable[[Arrays], Any]) -> Callable:
    """Returns a tower as a function of arrays, rows and columns; arrays that are not given are constants."""

    def call(given, rows, /, **columns):
        return join({**arrays, **given})[name](rows, **columns).astype(jnp.float32)

    return call


@contextlib.contextmanager
def _without_locations() -> Iterator[None]:
    """Leaves files and lines of code out of programs: they tell of the exporting machine, and differ between two."""
    limit = jax.config.jax_traceback_in_locations_limit
    jax.config.update("jax_traceback_in_locations_limit", 0)
    try:
        yield
    finally:
        jax.config.update("jax_traceback_in_locations_limit", limit)


def _symbolic(columns: Columns) -> tuple[jax.ShapeDtypeStruct, dict[str, jax.ShapeDtypeStruct]]:
    """Returns the shapes of rows and columns, with a symbolic batch size and symbolic widths of bags."""
    bags = [name for name in columns if name.startswith(TABLE) and f"{name}/weights" in columns]
    size, *widths = jax_export.symbolic_shape(", ".join(["batch", *(f"w{i}" for i in range(len(bags)))]))
    shapes = {name: column.shape[1:] for name, column in columns.items()}
    for name, width in zip(bags, widths, strict=True):
        shapes[name] = shapes[f"{name}/weights"] = (width,)
    like = {name: jax.ShapeDtypeStruct((size, *shapes[name]), column.dtype) for name, column in columns.items()}
    return jax.ShapeDtypeStruct((size,), jnp.int32), like


def _read(call: Callable, arrays: Mapping[str, Any], rows, columns: Mapping) -> list[str]:
    """Returns the names of the arrays that `call` reads, a function of arrays, rows and columns."""
    jaxpr = jax.jit(call).trace(arrays, rows, **columns).jaxpr.jaxpr
    inputs = [variable for equation in jaxpr.eqns for variable in equation.invars]
    used = {id(variable) for variable in [*inputs, *jaxpr.outvars]}
    variables = zip(sorted(arrays), jaxpr.invars[: len(arrays)], strict=True)
    return [name for name, variable in variables if id(variable) in used]


def _to_numpy(array: Shaped[Array, "..."]) -> Shaped[np.ndarray, "..."]:
    """Returns an array in the type that files hold, see `stored`."""
    found = np.asarray(array)
    return found.view(stored(found.dtype))


def stored(dtype: np.dtype) -> np.dtype:
    """Returns the type in which `.npy` files hold a type: unsigned integers for types that NumPy lacks, as bfloat16."""
    return dtype if dtype.isbuiltin == 1 else np.dtype(f"u{dtype.itemsize}")


def load_tower(
    content: bytes | memoryview, array: Callable[[str, tuple[int, ...], np.dtype], Shaped[Array, "..."]]
) -> Tower:
    """Returns a tower, a function of rows and columns, from its program; needs no model code.

    The tower is a pytree whose leaves are its arrays; `lift` takes them out again.

    Args:
      content: the program, as `export_towers` returns it.
      array: returns the array of a name, shape and type that the program reads.

    Raises:
      ValueError: the bytes are no such program, or it does not run on this platform.
    """
    try:
        program = jax_export.deserialize(bytearray(content))
        (avals, _), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
        expected = [(name, aval.shape, np.dtype(aval.dtype)) for name, aval in avals.items()]
    except Exception as error:  # whatever the parser meets
        raise ValueError(f"not a StableHLO program that this version of jax reads: {error!r}"[:300]) from None
    return Partial(jax.jit(program.call), {name: array(name, shape, dtype) for name, shape, dtype in expected})


@dataclasses.dataclass(frozen=True)
class InFewSizes:
    """A tower for batches of any size, also empty ones: pads them to powers of two.

    A tower is compiled anew for each batch size; padding bounds the number of sizes.

    Attributes:
      tower: takes batches of at least one row.
    """

    tower: Tower

    def __call__(
        self, rows: Int[np.ndarray, "n"], **columns: Shaped[np.ndarray, "n ..."]
    ) -> Float32[np.ndarray, "n D"]:
        """Returns the embeddings of rows, given the columns that the tower reads."""
        number = len(rows)
        missing = (1 << max(number - 1, 0).bit_length()) - number
        if missing:
            rows = np.concatenate([rows, np.zeros(missing, rows.dtype)])
            columns = {
                name: np.concatenate([column, np.zeros((missing, *column.shape[1:]), column.dtype)])
                for name, column in columns.items()
            }
        return np.asarray(self.tower(rows, **columns))[:number]


def by_row(tower: Tower, columns: Columns) -> Tower:
    """Returns a tower of rows alone, which holds its columns, [num_rows, ...] each, as further leaves."""
    return Partial(_at_rows, tower, {name: jnp.asarray(column) for name, column in columns.items()})


def _at_rows(tower: Tower, columns: Arrays, rows: Int[Array, "B"]) -> Float[Array, "B D"]:
    return tower(rows, **{name: column[rows] for name, column in columns.items()})
