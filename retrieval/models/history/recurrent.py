"""A recurrent history encoder."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from retrieval.models.layers import Dropout


class Gru(nnx.Module):
    """Gated recurrent units (Cho et al. 2014; GRU4Rec, Hidasi et al. 2016) and a linear layer over their state.

    Padding does not change the state; before the first interaction the output is START. O(B M D^2) for each layer,
    sequential in M.
    """

    def __init__(self, dimension: int, *, layers: int, dropout: float, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        """Creates `layers` recurrent layers of width `dimension`, with dropout between them and before the output."""
        self.cells = nnx.Dict({f"cell_{i}": GruCell(dimension, dtype=dtype, rngs=rngs) for i in range(layers)})
        self.dropouts = nnx.Dict({f"dropout_{i}": Dropout(dropout) for i in range(layers)})
        self.output = nnx.Linear(dimension, dimension, dtype=dtype, param_dtype=dtype, rngs=rngs)

    def __call__(
        self, tokens: Float[Array, "B M D"], real: Bool[Array, "B M"], times: Int[Array, "B M"] | None = None
    ) -> Float[Array, "B M D"]:
        states = tokens
        for i in range(len(self.cells)):
            states = self.dropouts[f"dropout_{i}"](self.cells[f"cell_{i}"](states, real))
        # Before the first interaction the state is 0 and tells nothing.
        begun = jnp.cumsum(real, axis=1) > 0
        return jnp.where(begun[..., None], self.output(states), tokens)


class GruCell(nnx.Module):
    """One recurrent layer: state = update * state + (1 - update) * tanh(input + reset * (state U + b)).

    `nnx.GRUCell` has no bias b, orders the gates otherwise and multiplies the inputs one position at a time:
    checkpoints would not load, and the input product of all positions at once would be lost.
    """

    def __init__(self, dimension: int, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs):
        """Creates the layer; the kernels hold the columns of update gate, reset gate and new state, in this order."""
        self.inputs = nnx.Linear(dimension, 3 * dimension, dtype=dtype, param_dtype=dtype, rngs=rngs)
        self.states = nnx.Linear(dimension, 3 * dimension, dtype=dtype, param_dtype=dtype, rngs=rngs)

    def __call__(self, tokens: Float[Array, "B M D"], real: Bool[Array, "B M"]) -> Float[Array, "B M D"]:
        """Returns the state after each token, from a state of 0 before the first."""

        def step(state, inputs):
            products, is_real = inputs
            token, hidden = jnp.split(products, 3, axis=1), jnp.split(self.states(state), 3, axis=1)
            update, reset = (jax.nn.sigmoid(x + h) for x, h in zip(token[:2], hidden[:2], strict=True))
            new = jnp.tanh(token[2] + reset * hidden[2])
            state = jnp.where(is_real[:, None], update * state + (1 - update) * new, state)
            return state, state

        # The product of the tokens does not depend on the state: one matrix product for all positions.
        columns = self.inputs(tokens).swapaxes(0, 1), real.swapaxes(0, 1)
        _, states = jax.lax.scan(step, jnp.zeros_like(tokens[:, 0]), columns)
        return states.swapaxes(0, 1)
