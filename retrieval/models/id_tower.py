"""A tower over ids alone."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from retrieval.models.embedding_table import EmbeddingTable, zero_unknown_row
from retrieval.models.layers import MLP


class IdTower(nnx.Module):
    """An embedding per id, and an optional MLP over it.

    The unknown row 0 starts at zero and stays there, because ids in train are known.
    """

    def __init__(
        self,
        num_rows: int,
        embedding_dimension: int,
        hidden_sizes: Sequence[int] = (),
        *,
        initial_scale: float,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates the table and the MLP.

        Args:
          num_rows: rows of the embedding table, the unknown row 0 included.
          embedding_dimension: D, size of the embeddings and of the output.
          hidden_sizes: sizes of the hidden layers; an output layer of size D follows them. Empty: no MLP.
          initial_scale: standard deviation of the table's initial values, cut at two of them.
          dtype: type of the parameters and of the output; products of matrices are accumulated in float32.
          rngs: random streams of the initial values.
        """
        initializer = zero_unknown_row(initial_scale)
        self.embedding = EmbeddingTable(num_rows, embedding_dimension, initializer=initializer, dtype=dtype, rngs=rngs)
        sizes = (embedding_dimension, *hidden_sizes, embedding_dimension) if hidden_sizes else ()
        self.mlp = MLP(sizes, dtype=dtype, rngs=rngs) if sizes else None

    def __call__(self, rows: Int[Array, "B"]) -> Float[Array, "B D"]:
        embeddings = self.embedding(rows)
        return embeddings if self.mlp is None else self.mlp(embeddings)

    def lookups(self, rows: Int[Array, "B"]) -> dict[str, Int[Array, "B"]]:
        """Returns the rows of the table that a call with `rows` looks up, by the table's path in the tower."""
        return {"embedding": rows}

    def rows_read(self, rows: Int[Array, "B"]) -> dict[str, Int[Array, "B 1"]]:
        """Returns the rows of the table that each of `rows` reads, by the table's path in the tower."""
        return {"embedding": rows[:, None]}
