"""Towers: modules that turn rows of an id table into embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from retrieval.data.vocabulary import UNKNOWN_ROW
from retrieval.models.tables import Table


class MLP(nnx.Module):
    """Dense layers with ReLU between them; the last layer is linear."""

    def __init__(self, sizes: Sequence[int], *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        """Creates len(sizes) - 1 layers, from sizes[0] inputs to sizes[-1] outputs, with parameters of type `dtype`."""
        self.layers = nnx.Dict(
            {
                f"layer_{i}": nnx.Linear(inputs, outputs, dtype=dtype, param_dtype=dtype, rngs=rngs)
                for i, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
            }
        )

    def __call__(self, x: Float[Array, "B In"]) -> Float[Array, "B Out"]:
        for i in range(len(self.layers)):  # not .values(): `bind` sorts them by name, layer_10 before layer_2
            x = self.layers[f"layer_{i}"](x if i == 0 else jax.nn.relu(x))
        return x


class IdTower(nnx.Module):
    """An embedding per id, and any depth of MLP over it.

    The unknown row starts at zero and, since training rows are known, stays there.
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
        """Creates a table of `num_rows` rows, the unknown one included.

        Args:
          num_rows: rows of the embedding table.
          embedding_dimension: size of the output, and of the table's rows.
          hidden_sizes: sizes of the hidden layers; an output layer follows them. Empty: the bare table.
          initial_scale: standard deviation of the table's initial values, cut at two of them.
          dtype: type of the parameters and of the output; products of matrices are accumulated in float32.
          rngs: random streams of the initial values.
        """
        initializer = _zero_unknown_row(initial_scale)
        self.embedding = Table(num_rows, embedding_dimension, initializer=initializer, dtype=dtype, rngs=rngs)
        sizes = (embedding_dimension, *hidden_sizes, embedding_dimension) if hidden_sizes else ()
        self.mlp = MLP(sizes, dtype=dtype, rngs=rngs) if sizes else None

    def __call__(self, rows: Int[Array, "B"]) -> Float[Array, "B D"]:
        embeddings = self.embedding(rows)
        return embeddings if self.mlp is None else self.mlp(embeddings)

    def lookups(self, rows: Int[Array, "B"]) -> dict[str, Int[Array, "B"]]:
        """Returns which rows of which table a call with `rows` looks up, by the table's name."""
        return {"embedding": rows}


def _zero_unknown_row(scale: float) -> nnx.Initializer:
    """Returns an initializer of truncated normal values (sd `scale` before the cut) with row 0 at zero."""
    normal = nnx.initializers.truncated_normal(scale)
    return lambda *args, **kwargs: normal(*args, **kwargs).at[UNKNOWN_ROW].set(0.0)
