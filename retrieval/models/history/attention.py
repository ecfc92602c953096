"""Softmax attention over a history, and an encoder that pools tokens by attention."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from retrieval.common.choices import check_choice
from retrieval.models.history import visibility


class AttentionPooling(nnx.Module):
    """Averages the visible tokens with attention weights; START where no token is visible. O(B M^2 D).

    Each head averages its share of the dimensions. Its weights come from the product of the tokens' keys with a query,
    a learned linear map of token p, and from a learned bias of the distance. Map and bias start at 0, so that training
    starts at the mean of `MeanBag`.
    """

    def __init__(
        self,
        dimension: int,
        *,
        length: int,
        heads: int,
        visible: str,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates the encoder.

        Args:
          dimension: D, size of the tokens.
          length: largest distance with a bias of its own.
          heads: number of heads, a divisor of the dimension.
          visible: "past" or "others".
          dtype: type of the parameters.
          rngs: random streams of the initial values.

        Raises:
          ValueError: `heads` does not divide the dimension, or `visible` is unknown.
        """
        check_choice("visible", visible, visibility.VISIBLE)
        check_heads(dimension, heads)
        self.visible = visible
        self.heads = heads
        common = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        self.query = nnx.Linear(dimension, dimension, kernel_init=nnx.initializers.zeros, **common)
        self.key_map = nnx.Linear(dimension, dimension, use_bias=False, **common)
        self.distances = DistanceBias(heads, length, dtype=dtype)

    def __call__(
        self, tokens: Float[Array, "B M D"], real: Bool[Array, "B M"], times: Int[Array, "B M"] | None = None
    ) -> Float[Array, "B M D"]:
        seen = visibility.mask(real, self.visible)
        nothing = ~jnp.any(seen, axis=2, keepdims=True)  # then token p is START and attends to itself
        seen |= nothing & jnp.eye(seen.shape[1], dtype=bool)[None]
        queries, keys, values = (split_heads(x, self.heads) for x in (self.query(tokens), self.key_map(tokens), tokens))
        return attend(queries, keys, values, seen, self.distances(tokens.shape[1])).reshape(tokens.shape)


class DistanceBias(nnx.Module):
    """A learned bias of attention scores for each head and distance p - k of two positions (Shaw et al. 2018).

    It starts at 0.
    """

    def __init__(self, heads: int, length: int, *, dtype: DTypeLike = jnp.float32):
        """Creates a table of the distances from -length to length; distances beyond read the nearest entry."""
        self.length = length
        self.table = nnx.Param(jnp.zeros((heads, 2 * length + 1), dtype))

    def __call__(self, size: int) -> Float[Array, "H {size} {size}"]:
        """Returns the biases of positions p, k in [0, size), as float32."""
        positions = jnp.arange(size)
        distances = jnp.clip(positions[:, None] - positions[None, :], -self.length, self.length)
        return self.table[...].astype(jnp.float32)[:, distances + self.length]


def attend(
    queries: Float[Array, "B P H d"],
    keys: Float[Array, "B K H d"],
    values: Float[Array, "B K H d"],
    seen: Bool[Array, "B P K"],
    bias: Float[Array, "H P K"] | None = None,
) -> Float[Array, "B P H d"]:
    """Computes softmax attention (Vaswani et al. 2017), with scores, softmax and sums in float32.

    Args:
      queries: queries, which are scaled by 1 / sqrt(d) here.
      keys: keys of the tokens that are attended to.
      values: values that are averaged.
      seen: the keys that each query sees, at least one; all others have weight 0 and gradient 0, exactly.
      bias: numbers added to the scores; None: 0.
    """
    # `jax.nn.dot_product_attention` gives the same float32 values in 1.3 times the time of a forward and backward pass
    # (two cores, B = 128, M = 51, H = 2, d = 32: 28 ms against 21), and refuses bfloat16 under strict dtype promotion.
    scores = head_products(queries * queries.shape[-1] ** -0.5, keys)
    if bias is not None:
        scores = scores + bias[None]
    return weighted_sums(jax.nn.softmax(jnp.where(seen[:, None], scores, -jnp.inf), axis=-1), values)


def head_products(queries: Float[Array, "B P H d"], keys: Float[Array, "B K H d"]) -> Float[Array, "B H P K"]:
    """Computes the dot products of queries and keys in each head, as float32."""
    return jnp.einsum("bphd,bkhd->bhpk", queries, keys, preferred_element_type=jnp.float32)


def weighted_sums(weights: Float[Array, "B H P K"], values: Float[Array, "B K H d"]) -> Float[Array, "B P H d"]:
    """Computes the sums of the values times the weights, accumulated in float32, in the type of the values."""
    narrow = weights.astype(values.dtype)
    sums = jnp.einsum("bhpk,bkhd->bphd", narrow, values, preferred_element_type=jnp.float32)
    return sums.astype(values.dtype)


def split_heads(x: Float[Array, "B M D"], heads: int) -> Float[Array, "B M {heads} d"]:
    """Returns each head's share of the dimensions."""
    return x.reshape(x.shape[0], x.shape[1], heads, x.shape[2] // heads)


def check_heads(dimension: int, heads: int) -> None:
    """Checks that each head has the same share of the dimensions.

    Raises:
      ValueError: `heads` is no divisor of the dimension.
    """
    if heads < 1 or dimension % heads:
        raise ValueError(f"heads must be a divisor of the dimension {dimension}, got {heads}")
