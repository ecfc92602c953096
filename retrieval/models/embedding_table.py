"""Embedding tables, which a training step may hold in part (the rows of its batch), and arrays that are not trained."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from retrieval.data.vocabulary import UNKNOWN_ROW


class Fixed(nnx.Variable):
    """An array of the model that is not trained, as encoded features or a prior."""


class EmbeddingTable(nnx.Module):
    """A trained embedding for each row."""

    def __init__(
        self,
        num_rows: int,
        dimension: int,
        *,
        initializer: nnx.Initializer,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates a table of shape [num_rows, dimension].

        Args:
          num_rows: number of rows.
          dimension: size of each embedding.
          initializer: initializer of the embeddings.
          dtype: type of the embeddings.
          rngs: random streams of the initial values.
        """
        self.embedding = nnx.Param(initializer(rngs.params(), (num_rows, dimension), dtype))
        self.held = nnx.data(None)  # rows that `embedding` holds, see `hold`; None: all rows

    def hold(self, rows: Int[Array, "U"]) -> None:
        """Declares that `embedding` holds only these rows, as in a step with lazy (touched-row) updates.

        Args:
          rows: distinct rows in ascending order, padded at the end with 0.
        """
        self.held = nnx.data(rows)

    def __call__(self, rows: Int[Array, "*B"]) -> Float[Array, "*B D"]:
        """Returns the embeddings of rows; NaN for a row that the table does not hold, so that a mistake is seen."""
        embedding = self.embedding[...]
        if self.held is None:
            return jnp.take(embedding, rows, axis=0)
        if rows is self.held:  # the rows of the batch in their own order: no search
            return embedding
        held = without_padding(self.held, jnp.iinfo(self.held.dtype).max)
        indices = jnp.searchsorted(held, rows)
        is_held = jnp.take(held, indices, mode="clip") == rows
        return jnp.where(is_held[..., None], jnp.take(embedding, indices, axis=0, mode="clip"), jnp.nan)


def without_padding(rows: Int[Array, "U"], beyond: int | Int[Array, "U"]) -> Int[Array, "U"]:
    """Replaces the zeros that pad distinct, ascending rows [U] by `beyond`, so that all rows ascend.

    >>> without_padding(jnp.array([0, 3, 7, 0, 0]), 9)
    Array([0, 3, 7, 9, 9], dtype=int32)
    """
    return jnp.where((rows == 0) & (jnp.arange(len(rows)) > 0), beyond, rows)


def zero_unknown_row(scale: float) -> nnx.Initializer:
    """Returns an initializer of normal values, standard deviation `scale`, cut at two of them, with row 0 at zero."""
    normal = nnx.initializers.truncated_normal(scale)
    return lambda *args, **kwargs: normal(*args, **kwargs).at[UNKNOWN_ROW].set(0.0)


def table_path(path: tuple[Any, ...]) -> str | None:
    """Returns the path of the table that holds a parameter; None if the parameter is not an embedding.

    >>> table_path((jax.tree_util.DictKey("query_tower"), jax.tree_util.DictKey("embedding")))
    'query_tower'
    >>> table_path((jax.tree_util.DictKey("query_tower"), jax.tree_util.DictKey("kernel"))) is None
    True
    """
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return name.removesuffix("/embedding") if name.endswith("/embedding") else None
