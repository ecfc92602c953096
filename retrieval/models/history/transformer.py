"""A causal Transformer over a history."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from retrieval.models.history import visibility
from retrieval.models.history.attention import attend, check_heads, split_heads
from retrieval.models.layers import Dropout, LayerNorm


class Transformer(nnx.Module):
    """Self-attention over the past (SASRec, Kang & McAuley 2018). O(layers B (M D^2 + M^2 D)).

    Each layer normalizes its input (pre-norm, Xiong et al. 2020), and the output is normalized. A learned embedding of
    the position, counted from the end, is added to real tokens; it starts at 0. Dropout applies to the output of
    attention and of the dense layers, not to the attention weights.
    """

    def __init__(
        self,
        dimension: int,
        *,
        length: int,
        layers: int,
        heads: int,
        dropout: float,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates the encoder.

        Args:
          dimension: D, size of the tokens.
          length: largest number of tokens after token 0.
          layers: number of layers; 0: the output is token p, normalized.
          heads: number of heads, a divisor of the dimension.
          dropout: dropout rate.
          dtype: type of the parameters.
          rngs: random streams of the initial values.

        Raises:
          ValueError: `heads` does not divide the dimension.
        """
        self.positions = nnx.Param(jnp.zeros((length, dimension), dtype))
        common = {"heads": heads, "dropout": dropout, "dtype": dtype, "rngs": rngs}
        self.layers = nnx.Dict({f"layer_{i}": TransformerLayer(dimension, **common) for i in range(layers)})
        self.norm = LayerNorm(dimension, dtype=dtype)

    def __call__(
        self, tokens: Float[Array, "B M D"], real: Bool[Array, "B M"], times: Int[Array, "B M"] | None = None
    ) -> Float[Array, "B M D"]:
        """Returns the outputs.

        Raises:
          ValueError: there are more tokens than positions.
        """
        size, length = tokens.shape[1] - 1, self.positions.shape[0]
        if size > length:
            raise ValueError(f"the encoder has {length} positions and received {size} tokens; cut to the last {length}")
        positions = jnp.pad(self.positions[...][:size][::-1], ((1, 0), (0, 0)))  # token 0 is START
        # Token embeddings are scaled by sqrt(D) (Vaswani et al. 2017, section 3.4); START has no position.
        x = tokens * tokens.shape[2] ** 0.5 + jnp.where(real[..., None], positions[None], 0)
        seen = visibility.with_itself(visibility.mask(real, "past"))
        for i in range(len(self.layers)):
            x = self.layers[f"layer_{i}"](x, seen)
        return self.norm(x)


class TransformerLayer(nnx.Module):
    """Self-attention, then a dense block of width D at each position, each added to its input."""

    def __init__(self, dimension: int, *, heads: int, dropout: float, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        """Creates a layer; the arguments are those of `Transformer`."""
        check_heads(dimension, heads)
        self.heads = heads
        common = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        self.attention_norm = LayerNorm(dimension, dtype=dtype)
        self.queries_keys_values = nnx.Linear(dimension, 3 * dimension, **common)
        self.attention_output = nnx.Linear(dimension, dimension, **common)
        self.attention_dropout = Dropout(dropout)
        self.dense_norm = LayerNorm(dimension, dtype=dtype)
        self.dense = nnx.Linear(dimension, dimension, **common)
        self.dense_output = nnx.Linear(dimension, dimension, **common)
        self.dense_dropout = Dropout(dropout)

    def __call__(self, x: Float[Array, "B M D"], seen: Bool[Array, "B M M"]) -> Float[Array, "B M D"]:
        """Returns the tokens after the layer; position p attends to the tokens in `seen`."""
        parts = jnp.split(self.queries_keys_values(self.attention_norm(x)), 3, axis=-1)
        queries, keys, values = (split_heads(part, self.heads) for part in parts)
        attended = attend(queries, keys, values, seen).reshape(x.shape)
        x = x + self.attention_dropout(self.attention_output(attended))
        dense = self.dense_output(jax.nn.relu(self.dense(self.dense_norm(x))))
        return x + self.dense_dropout(dense)
