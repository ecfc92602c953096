"""Towers as StableHLO programs, which run where there is no model code, and the arrays that they read.

A program does not hold the arrays of its model: a table of millions of rows would be compiled into it, anew for each
size of batch, and a program cannot have more than 2 GiB. They are inputs, by name, and lie beside.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
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
    """Takes the arrays out of a pytree, as models and `jax.tree_util.Partial` are.

    NumPy's arrays stay, which code may read as constants, and so do keys and complex numbers.

    Returns:
      The arrays by name, each once, wherever it stands; and what makes the tree anew of others by these names.
    """
    leaves, structure = jax.tree.flatten(tree)
    names: dict[int, str] = {}
    of_leaves = [names.setdefault(id(leaf), f"parameter_{len(names)}") if _is_real(leaf) else None for leaf in leaves]

    def join(arrays: Arrays) -> Any:
        return structure.unflatten(
            [leaf if name is None else arrays[name] for name, leaf in zip(of_leaves, leaves, strict=True)]
        )

    return {name: leaf for name, leaf in zip(of_leaves, leaves, strict=True) if name is not None}, join


def _is_real(leaf: Any) -> bool:
    """Tells arrays of JAX that files and TensorFlow have as they are, or as bytes of as many numbers."""
    return isinstance(leaf, jax.Array) and any(jnp.issubdtype(leaf.dtype, of) for of in _REAL)


def export_towers(
    towers: Mapping[str, tuple[Tower, Columns]],
) -> tuple[dict[str, bytes], dict[str, Shaped[np.ndarray, "..."]]]:
    """Returns towers as serialised StableHLO programs for cpu, cuda and tpu, of any batch size, and what they read.

    A program takes arrays by name, rows [B], and columns by name as keyword arguments.

    Args:
      towers: by name, a pytree that maps rows [B], and columns as keyword arguments, to embeddings [B, D]; and columns
        such as it reads, of any number of examples: the program takes those of these names, types and shapes. Features
        of entities that look rows up may have any number of them.

    Returns:
      The programs, by name; and the arrays in the towers that some of them read, by theirs.
    """
    arrays, join = lift({name: tower for name, (tower, _) in towers.items()})
    programs: dict[str, bytes] = {}
    read: set[str] = set()
    for name, (_, columns) in towers.items():
        call = _program(name, arrays, join)
        rows, like = _symbolic(columns)
        # by shape and type alone: the devices that parameters lie on would go into the program
        specs = {array: jax.ShapeDtypeStruct(of.shape, of.dtype) for array, of in arrays.items()}
        own = {array: specs[array] for array in _read(call, specs, rows, like)}
        program = jax_export.export(jax.jit(call), platforms=PLATFORMS)(own, rows, **like)
        programs[name] = bytes(program.serialize())
        read |= set(own)
    return programs, {name: _to_numpy(arrays[name]) for name in sorted(read)}


def _program(name: str, arrays: Arrays, join: Callable[[Arrays], Any]) -> Callable:
    """Returns a tower as a function of the arrays that it reads, or of more of them, rows and columns."""

    def call(given, rows, /, **columns):
        return join({**arrays, **given})[name](rows, **columns).astype(jnp.float32)

    return call


def _symbolic(columns: Columns) -> tuple[jax.ShapeDtypeStruct, dict[str, jax.ShapeDtypeStruct]]:
    """Returns rows and columns of any number of examples."""
    of_bags = [name for name in columns if name.startswith(TABLE) and f"{name}/weights" in columns]
    size, *widths = jax_export.symbolic_shape(", ".join(["batch", *(f"w{i}" for i in range(len(of_bags)))]))
    shapes = {name: column.shape[1:] for name, column in columns.items()}
    for name, width in zip(of_bags, widths, strict=True):
        shapes[name] = shapes[f"{name}/weights"] = (width,)
    like = {name: jax.ShapeDtypeStruct((size, *shapes[name]), column.dtype) for name, column in columns.items()}
    return jax.ShapeDtypeStruct((size,), jnp.int32), like


def _read(call: Callable, arrays: Mapping[str, Any], rows, columns: Mapping) -> list[str]:
    """Returns the names of the arrays that a function of them, rows and columns reads."""
    jaxpr = jax.jit(call).trace(arrays, rows, **columns).jaxpr.jaxpr
    used = {id(of) for equation in jaxpr.eqns for of in equation.invars} | {id(of) for of in jaxpr.outvars}
    return [name for name, of in zip(sorted(arrays), jaxpr.invars[: len(arrays)], strict=True) if id(of) in used]


def _to_numpy(array: Shaped[Array, "..."]) -> Shaped[np.ndarray, "..."]:
    """Returns an array as files have it, see `stored`."""
    found = np.asarray(array)
    return found.view(stored(found.dtype))


def stored(dtype: np.dtype) -> np.dtype:
    """Returns the type that .npy files have a type as: unsigned integers for those that NumPy lacks, as bfloat16."""
    return dtype if dtype.isbuiltin == 1 else np.dtype(f"u{dtype.itemsize}")


def load_tower(
    content: bytes | memoryview, array: Callable[[str, tuple[int, ...], np.dtype], Shaped[Array, "..."]]
) -> Tower:
    """Returns a tower of rows, and columns as keyword arguments, out of its program; needs no model code.

    It is a pytree with the arrays as leaves, which `lift` takes out again.

    Args:
      content: the program, as of `export_towers`.
      array: name, shape, type -> an array that the program reads.

    Raises:
      ValueError: the bytes are no such program, or it does not run on this platform.
    """
    try:
        program = jax_export.deserialize(bytearray(content))
        (of_arrays, _), _ = jax.tree.unflatten(program.in_tree, program.in_avals)
        expected = {name: (of.shape, np.dtype(of.dtype)) for name, of in of_arrays.items()}
    except Exception as error:  # whatever the parser meets
        raise ValueError(f"not a StableHLO program that this version of jax reads: {error!r}"[:300]) from None
    return Partial(jax.jit(program.call), {name: array(name, *of) for name, of in expected.items()})


@dataclasses.dataclass(frozen=True)
class InFewSizes:
    """A tower for batches of any size, none included, which are padded to powers of two.

    It is compiled anew for each size that it gets.

    Attributes:
      tower: of a batch of one or more.
    """

    tower: Tower

    def __call__(
        self, rows: Int[np.ndarray, "n"], **columns: Shaped[np.ndarray, "n ..."]
    ) -> Float32[np.ndarray, "n D"]:
        """Returns the embeddings of rows, in the columns that the tower reads."""
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
    """Returns a tower of rows alone, which holds the columns that it reads, [num_rows, ...] each, as more leaves."""
    return Partial(_at_rows, tower, {name: jnp.asarray(column) for name, column in columns.items()})


def _at_rows(tower: Tower, columns: Arrays, rows: Int[Array, "B"]) -> Float[Array, "B D"]:
    return tower(rows, **{name: column[rows] for name, column in columns.items()})
