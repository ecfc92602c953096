"""Embeddings of encoded features: of rows in a table (`Lookup`), and of dense values (`Dense`)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from retrieval.common.choices import check_choice
from retrieval.data.vocabulary import UNKNOWN_ROW
from retrieval.features.encoded import COMBINERS
from retrieval.models.embedding_table import EmbeddingTable, zero_unknown_row
from retrieval.models.layers import FeatureDropout


class Lookup(nnx.Module):
    """Combines the embeddings of the rows that a feature looks up: a category, a bag, the words of a text.

    A missing feature has the embedding of row 0. Row 0 starts at zero and is trained by the examples that miss the
    feature, and by the examples whose feature `dropout` removes.
    """

    def __init__(
        self,
        num_rows: int,
        dimension: int,
        *,
        combiner: str = "mean",
        dropout: float = 0.0,
        initial_scale: float,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates the table.

        Args:
          num_rows: number of rows; row 0 stands for missing and unknown values.
          dimension: D, size of the output.
          combiner: the weighted sum of the embeddings, as it is ("sum"), divided by the sum of the weights ("mean"), or
            by the square root of the sum of the squared weights ("sqrtn").
          dropout: probability that training treats the feature as missing.
          initial_scale: standard deviation of the table's initial values, cut at two of them.
          dtype: type of the table and of the output; sums are accumulated in float32.
          rngs: random streams of the initial values.

        Raises:
          ValueError: the combiner is unknown, or `dropout` is not in [0, 1).
        """
        check_choice("combiner", combiner, COMBINERS)
        self.table = EmbeddingTable(
            num_rows, dimension, initializer=zero_unknown_row(initial_scale), dtype=dtype, rngs=rngs
        )
        self.dropout = FeatureDropout(dropout)
        self.combiner = combiner
        self.num_rows = num_rows

    def __call__(self, rows: Int[Array, "*B W"], weights: Float[Array, "*B W"] | None = None) -> Float[Array, "*B D"]:
        """Returns the combined embeddings of W rows each.

        Args:
          rows: rows of the table.
          weights: weights of the rows, at least 0; 0 marks padding, and a feature with weights 0 alone is missing.
            None: all 1.
        """
        if weights is None and rows.shape[-1] == 1:
            return self.of_rows(rows[..., 0])
        weights = jnp.ones(rows.shape) if weights is None else weights
        missing = jnp.all(weights == 0, axis=-1)
        if (dropped := self.dropout(missing.shape)) is not None:
            missing |= dropped
        # A missing feature reads row 0 once, with weight 1: the divisor stays above 0 and the gradient finite.
        first = jnp.broadcast_to(jnp.arange(rows.shape[-1]) == 0, rows.shape)
        weights = jnp.where(missing[..., None], first.astype(weights.dtype), weights)
        embeddings = self.table(jnp.where(missing[..., None], UNKNOWN_ROW, rows))
        wide = embeddings.astype(np.promote_types(embeddings.dtype, weights.dtype))
        total = jnp.einsum("...w,...wd->...d", weights.astype(wide.dtype), wide, precision="highest")
        return (total / self._divisor(weights)[..., None].astype(wide.dtype)).astype(embeddings.dtype)

    def of_rows(self, rows: Int[Array, "*B"]) -> Float[Array, "*B D"]:
        """Returns the embeddings of single rows, each with weight 1."""
        dropped = self.dropout(rows.shape)
        return self.table(rows if dropped is None else jnp.where(dropped, UNKNOWN_ROW, rows))

    def _divisor(self, weights: Float[Array, "*B W"]) -> Float[Array, "*B"]:
        if self.combiner == "sum":
            return jnp.ones(weights.shape[:-1], weights.dtype)
        if self.combiner == "mean":
            return jnp.sum(weights, axis=-1)
        return jnp.sqrt(jnp.sum(weights**2, axis=-1))


class Dense(nnx.Module):
    """A linear map of dense values. The last value is 1, and the others are 0, where the feature is missing.

    The output of a missing feature starts at zero and is trained, as row 0 of a `Lookup` is.
    """

    def __init__(
        self,
        size: int,
        dimension: int,
        *,
        dropout: float = 0.0,
        initial_scale: float,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates the map of `size` values, F, to `dimension`, D; the other arguments are those of `Lookup`.

        Raises:
          ValueError: `dropout` is not in [0, 1).
        """
        normal = nnx.initializers.truncated_normal(initial_scale)
        self.linear = nnx.Linear(
            size,
            dimension,
            use_bias=False,
            kernel_init=lambda *args: normal(*args).at[-1].set(0.0),
            dtype=dtype,
            param_dtype=dtype,
            rngs=rngs,
        )
        self.dropout = FeatureDropout(dropout)

    def __call__(self, values: Float[Array, "*B F"]) -> Float[Array, "*B D"]:
        if (dropped := self.dropout(values.shape[:-1])) is not None:
            indicator = jnp.broadcast_to(jnp.arange(values.shape[-1]) == values.shape[-1] - 1, values.shape)
            values = jnp.where(dropped[..., None], indicator.astype(values.dtype), values)
        return self.linear(values)
