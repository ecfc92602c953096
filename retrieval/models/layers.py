"""Layers that towers are made of; every layer that is random in training has a `key`, which `bind` sets."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float

EPSILON = 1e-6  # added to variances


class Dropout(nnx.Module):
    """Sets each value to 0 with probability `rate` and divides the others by 1 - rate, where it has a key.

    Without a key, in evaluation and serving, it changes nothing. Calls with one key and one shape drop the same values.
    Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """

    def __init__(self, rate: float):
        """Creates the layer.

        Raises:
          ValueError: the rate is not in [0, 1).
        """
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"a dropout rate must be in [0, 1), got {rate}")
        self.rate = rate
        self.key = nnx.data(None)

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        if self.key is None or self.rate == 0:
            return x
        kept = jax.random.bernoulli(self.key, 1.0 - self.rate, x.shape)
        return jnp.where(kept, x / (1.0 - self.rate), 0.0)


class LayerNorm(nnx.Module):
    """Gives each vector mean 0 and variance 1 over its D values, then a learned scale and bias to each of the D.

    Statistics are in float32 at least. Source: Ba et al. 2016, "Layer normalization".
    """

    def __init__(self, size: int, *, dtype: DTypeLike = jnp.float32):
        """Creates scales of 1 and biases of 0, [size] each."""
        self.scale = nnx.Param(jnp.ones(size, dtype))
        self.bias = nnx.Param(jnp.zeros(size, dtype))

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        wide = x.astype(np.promote_types(x.dtype, np.float32))
        centred = wide - jnp.mean(wide, axis=-1, keepdims=True)
        normal = centred * jax.lax.rsqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + EPSILON)
        shape = (1,) * (x.ndim - 1) + (-1,)
        return normal.astype(x.dtype) * self.scale[...].reshape(shape) + self.bias[...].reshape(shape)
