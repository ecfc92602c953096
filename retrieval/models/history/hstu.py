"""Hierarchical sequential transduction units (HSTU) over a history."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from retrieval.models.history import visibility
from retrieval.models.history.attention import DistanceBias, check_heads, head_products, split_heads, weighted_sums
from retrieval.models.history.tokens import NUM_LOG_BUCKETS, log_buckets
from retrieval.models.layers import Dropout, LayerNorm


class Hstu(nnx.Module):
    """Pointwise attention without a softmax, gated (HSTU, Zhai et al. 2024, section 3.1). O(layers B (M D^2 + M^2 D)).

    Attention scores have a learned bias of the distance and, given `times`, of the time between the two tokens, in
    buckets that double in width (in the paper they grow by 1.35). The output is normalized.
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
          length: largest distance with a bias of its own.
          layers: number of layers; 0: the output is token p, normalized.
          heads: number of heads, a divisor of the dimension.
          dropout: dropout rate of the input of each layer's last linear map.
          dtype: type of the parameters.
          rngs: random streams of the initial values.

        Raises:
          ValueError: `heads` does not divide the dimension.
        """
        common = {"length": length, "heads": heads, "dropout": dropout, "dtype": dtype, "rngs": rngs}
        self.layers = nnx.Dict({f"layer_{i}": HstuLayer(dimension, **common) for i in range(layers)})
        self.norm = LayerNorm(dimension, dtype=dtype)

    def __call__(
        self, tokens: Float[Array, "B M D"], real: Bool[Array, "B M"], times: Int[Array, "B M"] | None = None
    ) -> Float[Array, "B M D"]:
        seen = visibility.with_itself(visibility.mask(real, "past"))
        buckets = None
        if times is not None:
            buckets = log_buckets(jnp.maximum(times[:, :, None] - times[:, None, :], 0))
        x = tokens * tokens.shape[2] ** 0.5  # embeddings start small, see `initial_scale`
        for i in range(len(self.layers)):
            x = self.layers[f"layer_{i}"](x, seen, buckets)
        return self.norm(x)


class HstuLayer(nnx.Module):
    """Adds linear(U * norm(A V)) to x, where A = silu(Q K' + bias) for visible tokens and 0 for others.

    U, V, Q and K are silu(linear(norm(x))). The paper divides A by the length, which the norm after it cancels; the
    division is left out so that padding changes nothing. The heads share the bias of time.
    """

    def __init__(
        self,
        dimension: int,
        *,
        length: int,
        heads: int,
        dropout: float,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates a layer; the arguments are those of `Hstu`."""
        check_heads(dimension, heads)
        self.heads = heads
        common = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        self.norm = LayerNorm(dimension, dtype=dtype)
        self.projections = nnx.Linear(dimension, 4 * dimension, use_bias=False, **common)
        self.distances = DistanceBias(heads, length, dtype=dtype)
        self.time_bias = nnx.Param(jnp.zeros(NUM_LOG_BUCKETS, dtype))
        self.sums_norm = LayerNorm(dimension, dtype=dtype)
        self.dropout = Dropout(dropout)
        self.output = nnx.Linear(dimension, dimension, **common)

    def __call__(
        self, x: Float[Array, "B M D"], seen: Bool[Array, "B M M"], buckets: Int[Array, "B M M"] | None
    ) -> Float[Array, "B M D"]:
        """Returns the tokens after the layer; `buckets` [b, p, k] are buckets of the time between tokens p and k."""
        gates, *parts = jnp.split(jax.nn.silu(self.projections(self.norm(x))), 4, axis=-1)
        values, queries, keys = (split_heads(part, self.heads) for part in parts)
        scores = head_products(queries, keys) + self.distances(x.shape[1])[None]
        if buckets is not None:
            scores = scores + self.time_bias[...].astype(jnp.float32)[buckets][:, None]
        # Pointwise weights in place of a softmax: a masked weight is 0, not -inf before an exponential.
        sums = weighted_sums(jnp.where(seen[:, None], jax.nn.silu(scores), 0.0), values).reshape(x.shape)
        return x + self.output(self.dropout(gates * self.sums_norm(sums)))
