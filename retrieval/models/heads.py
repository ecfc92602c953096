"""Heads: predictions for pairs of a query and a candidate, as a rating, from the outputs of both towers."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class Head(nnx.Module):
    """An MLP over the towers' outputs q and c and their elementwise product q * c.

    The product gives a linear head the terms of the dot product; q and c alone carry the biases of the query and of the
    candidate. The last layer starts at 0, so that training starts at the mean of a number, or at the base rate of an
    event. Internally a number is predicted in units of its standard deviation. Parameters and outputs are float32.
    """

    def __init__(
        self,
        dimension: int,
        hidden_sizes: Sequence[int] = (),
        *,
        start: float,
        deviation: float = 1.0,
        is_binary: bool = False,
        rngs: nnx.Rngs,
    ):
        """Creates a head.

        Args:
          dimension: D, size of the towers' outputs.
          hidden_sizes: sizes of the hidden layers, each with a ReLU; an output layer of size 1 follows them.
          start: the output before training: the mean of a number, the log-odds of an event.
          deviation: standard deviation of the number, the unit of the MLP's output.
          is_binary: whether the outputs are log-odds.
          rngs: random streams of the initial values.
        """
        sizes = (3 * dimension, *hidden_sizes)
        self.hidden = nnx.Dict(
            {
                f"layer_{i}": nnx.Linear(inputs, outputs, rngs=rngs)
                for i, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True))
            }
        )
        self.output = nnx.Linear(sizes[-1], 1, kernel_init=nnx.initializers.zeros_init(), rngs=rngs)
        self.start, self.deviation, self.is_binary = start, deviation, is_binary

    def __call__(self, queries: Float[Array, "B D"], candidates: Float[Array, "B D"]) -> Float[Array, "B"]:
        """Returns the predicted number of each pair, or the log-odds of the event."""
        q, c = queries.astype(jnp.float32), candidates.astype(jnp.float32)
        x = jnp.concatenate([q, c, q * c], axis=1)  # [B, 3 D]
        for i in range(len(self.hidden)):  # not .values(): `bind` sorts the entries by name, layer_10 before layer_2
            x = jax.nn.relu(self.hidden[f"layer_{i}"](x))
        return self.start + self.deviation * self.output(x)[:, 0]

    def expected(self, outputs: Float[Array, "B"]) -> Float[Array, "B"]:
        """Converts outputs to predictions: the number itself, or the probability of the event."""
        return jax.nn.sigmoid(outputs) if self.is_binary else outputs
