"""Heads: what is predicted of a query and a candidate together, from the outputs of both towers."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float


class Head(nnx.Module):
    """An MLP over the outputs q and c of the towers and their product q * c, value by value.

    The product lets a linear head see what a dot product sees; q and c alone are what the query and the candidate tend
    to by themselves. The last layer starts at 0, so that training starts at what is true of every pair: the mean of a
    number, or the base rate of an event. A number is predicted in units of its deviation, which the caller does not
    see. Parameters and outputs are float32.
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
          dimension: D, of the towers' outputs.
          hidden_sizes: sizes of the hidden layers, each with a ReLU; an output layer of size 1 follows them.
          start: the output before training: the mean of a number, the log-odds of an event.
          deviation: the unit that the MLP counts in: the standard deviation of a number.
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
        """Returns the number that is expected of each pair, or the log-odds of the event."""
        q, c = queries.astype(jnp.float32), candidates.astype(jnp.float32)
        x = jnp.concatenate([q, c, q * c], axis=1)  # [B, 3 D]
        for i in range(len(self.hidden)):  # not .values(): `bind` sorts them by name, layer_10 before layer_2
            x = jax.nn.relu(self.hidden[f"layer_{i}"](x))
        return self.start + self.deviation * self.output(x)[:, 0]

    def expected(self, outputs: Float[Array, "B"]) -> Float[Array, "B"]:
        """Returns the label that outputs stand for: the number itself, or the probability of the event."""
        return jax.nn.sigmoid(outputs) if self.is_binary else outputs
