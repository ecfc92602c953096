"""Layers that towers and encoders are made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class Dropout(nnx.Module):
    """Sets values to 0 at random, and scales the others so that the mean stays (Srivastava et al. 2014).

    Without a key, as in evaluation and serving, it returns what it is given; training binds a key for each step.
    """

    def __init__(self, rate: float):
        """Creates a layer that drops each value with probability `rate`, in [0, 1)."""
        self.rate = rate
        self.key = nnx.data(None)

    def __call__(self, x: Float[Array, "*S"]) -> Float[Array, "*S"]:
        if self.key is None or self.rate == 0:
            return x
        keep = jax.random.bernoulli(self.key, 1 - self.rate, x.shape)
        return jnp.where(keep, x / (1 - self.rate), 0)
