"""Layers of towers. A layer that is random in training has an attribute `key`, which `bind` sets."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float


class Dropout(nnx.Module):
    """Sets each value to 0 with probability `rate` and divides the others by 1 - rate, if the layer has a key.

    Without a key, in evaluation and serving, the input is returned. Calls with one key and one shape drop the same
    values. `nnx.Dropout` draws from a stream with state, of which a step would not be a function of (seed, step).
    Source: Srivastava et al. 2014, "Dropout: a simple way to prevent neural networks from overfitting".
    """

    def __init__(self, rate: float):
        """Creates the layer.

        Raises:
          ValueError: the rate is not in [0, 1).
        """
        self.rate = _checked_rate(rate)
        self.key = nnx.data(None)

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        if self.key is None or self.rate == 0:
            return x
        kept = jax.random.bernoulli(self.key, 1.0 - self.rate, x.shape)
        return jnp.where(kept, x / (1.0 - self.rate), 0.0)


class FeatureDropout(nnx.Module):
    """Draws the examples that lose a feature, each with probability `rate`, if the layer has a key; see `Dropout`."""

    def __init__(self, rate: float):
        """Creates the layer.

        Raises:
          ValueError: the rate is not in [0, 1).
        """
        self.rate = _checked_rate(rate)
        self.key = nnx.data(None)

    def __call__(self, shape: tuple) -> Bool[Array, "*B"] | None:
        """Returns a mask of the examples that lose the feature; None if none can."""
        if self.key is None or self.rate == 0:
            return None
        return jax.random.bernoulli(self.key, self.rate, shape)


class LayerNorm(nnx.LayerNorm):
    """Layer normalization (Ba et al. 2016) with statistics in float32 at least, whose output has the input's type.

    `nnx.LayerNorm` of bfloat16 values computes float32 statistics and then mixes both types, which strict dtype
    promotion refuses: here all of it is float32. The variance is that of the centred values. `nnx` defaults to
    E[x^2] - E[x]^2, which loses a variance that is small beside the mean.
    """

    def __init__(self, size: int, *, dtype: DTypeLike = jnp.float32):
        """Creates scales of 1 and biases of 0, [size] each, of this type."""
        super().__init__(
            size,
            dtype=np.promote_types(dtype, np.float32),
            param_dtype=dtype,
            use_fast_variance=False,
            rngs=nnx.Rngs(0),  # not drawn from: the initial values are constants
        )

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        return super().__call__(x).astype(x.dtype)


class MLP(nnx.Module):
    """Dense layers: hidden layers are linear, ReLU and dropout; the last layer is linear."""

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        dropout: float = 0.0,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates len(sizes) - 1 layers, from sizes[0] inputs to sizes[-1] outputs.

        Args:
          sizes: sizes of the input, of the hidden layers and of the output.
          dropout: dropout rate of the hidden layers.
          dtype: type of the parameters and of the output.
          rngs: random streams of the initial values.

        Raises:
          ValueError: the rate is not in [0, 1).
        """
        self.layers = nnx.Dict(
            {
                f"layer_{i}": nnx.Linear(inputs, outputs, dtype=dtype, param_dtype=dtype, rngs=rngs)
                for i, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
            }
        )
        self.dropouts = nnx.Dict({f"layer_{i}": Dropout(dropout) for i in range(len(sizes) - 2)})

    def __call__(self, x: Float[Array, "*B In"]) -> Float[Array, "*B Out"]:
        for i in range(len(self.layers)):  # not .values(): `bind` sorts the entries by name, layer_10 before layer_2
            name = f"layer_{i}"
            x = self.layers[name](x)
            if name in self.dropouts:  # a hidden layer
                x = self.dropouts[name](jax.nn.relu(x))
        return x


class CrossLayers(nnx.Module):
    """Cross layers of DCN-v2: x_{l+1} = x_0 * (W_l x_l + b_l) + x_l, polynomials of degree layers + 1 in the input.

    O(layers * D * rank) time for each vector, O(layers * D^2) at full rank. Source: Wang et al. 2021,
    "DCN V2", equations 1 and 2.
    """

    def __init__(self, size: int, layers: int, rank: int = 0, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        """Creates the layers.

        Args:
          size: D, size of the input and of the output.
          layers: number of layers.
          rank: rank of W_l, a product of a [D, rank] and a [rank, D] matrix; 0: a full [D, D] matrix.
          dtype: type of the parameters and of the output.
          rngs: random streams of the initial values.
        """
        common = {"dtype": dtype, "param_dtype": dtype, "rngs": rngs}
        names = [f"layer_{i}" for i in range(layers)]
        self.narrow = nnx.Dict(
            {name: nnx.Linear(size, rank, use_bias=False, **common) for name in names} if rank else {}
        )
        self.layers = nnx.Dict({name: nnx.Linear(rank or size, size, **common) for name in names})

    def __call__(self, x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
        first = x
        for i in range(len(self.layers)):  # in this order, see `MLP`
            name = f"layer_{i}"
            inputs = self.narrow[name](x) if name in self.narrow else x
            x = first * self.layers[name](inputs) + x
        return x


def _checked_rate(rate: float) -> float:
    """Returns the rate of a dropout.

    Raises:
      ValueError: the rate is not in [0, 1).
    """
    if not 0.0 <= rate < 1.0:
        raise ValueError(f"a dropout rate must be in [0, 1), got {rate}")
    return rate
