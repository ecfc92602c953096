"""Towers as StableHLO programs, which run where there is no model code."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jaxtyping import Array, Float, Float32, Int, Shaped

from retrieval.features import TABLE

PLATFORMS = ("cpu", "cuda", "tpu")

Columns = Mapping[str, Shaped[np.ndarray, "n ..."]]
Tower = Callable[..., Float[Array, "B D"]]
Encode = Callable[..., Float32[np.ndarray, "n D"]]


def export_tower(tower: Tower, columns: Columns | None = None) -> bytes:
    """Returns a tower as a serialised StableHLO program for cpu, cuda and tpu, of any batch size.

    Args:
      tower: rows [B], and columns by name as keyword arguments -> embeddings [B, D].
      columns: such as it reads, of any number of examples; the program takes those of these names, types and shapes.
        Features of entities that look rows up may have any number of them.
    """
    columns = columns or {}
    of_bags = [name for name in columns if name.startswith(TABLE) and f"{name}/weights" in columns]
    size, *widths = jax_export.symbolic_shape(", ".join(["batch", *(f"w{i}" for i in range(len(of_bags)))]))
    shapes = {name: column.shape[1:] for name, column in columns.items()}
    for name, width in zip(of_bags, widths, strict=True):
        shapes[name] = shapes[f"{name}/weights"] = (width,)
    like = {name: jax.ShapeDtypeStruct((size, *shapes[name]), column.dtype) for name, column in columns.items()}
    program = jax_export.export(
        jax.jit(lambda rows, **context: tower(rows, **context).astype(jnp.float32)), platforms=PLATFORMS
    )
    return bytes(program(jax.ShapeDtypeStruct((size,), jnp.int32), **like).serialize())


def load_tower(content: bytes) -> Tower:
    """Returns the function that `export_tower` serialised; needs no model code.

    Raises:
      ValueError: the bytes are no such program, or it does not run on this platform.
    """
    try:
        return jax.jit(jax_export.deserialize(bytearray(content)).call)
    except Exception as error:  # whatever the parser meets
        raise ValueError(f"not a StableHLO program that this version of jax reads: {error!r}"[:300]) from None


def in_few_sizes(tower: Tower) -> Encode:
    """Returns the tower for batches of any size, none included, which are padded to powers of two.

    It is compiled anew for each size that it gets.
    """

    def encode(rows: Int[np.ndarray, "n"], **columns: Shaped[np.ndarray, "n ..."]) -> Float32[np.ndarray, "n D"]:
        number = len(rows)
        missing = (1 << max(number - 1, 0).bit_length()) - number
        if missing:
            rows = np.concatenate([rows, np.zeros(missing, rows.dtype)])
            columns = {
                name: np.concatenate([column, np.zeros((missing, *column.shape[1:]), column.dtype)])
                for name, column in columns.items()
            }
        return np.asarray(tower(rows, **columns))[:number]

    return encode


def by_row(tower: Tower, columns: Columns) -> Tower:
    """Returns a tower of rows alone, which holds the columns that it reads, [num_rows, ...] each."""
    held = {name: jnp.asarray(column) for name, column in columns.items()}
    return lambda rows: tower(rows, **{name: column[rows] for name, column in held.items()})
