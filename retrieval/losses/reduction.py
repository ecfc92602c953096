"""From the losses of a batch's examples to the value that a step minimises."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def reduce(
    losses: Float[Array, "B"], weights: Float[Array, "B"] | None, reduction: str
) -> Float[Array, ""] | Float[Array, "B"]:
    """Returns the weighted losses ("none"), their sum, or their mean: the sum over the sum of the weights.

    The sum ties the learning rate to the batch size; the mean does not. The mean is 0 where all weights are.
    """
    weights = jnp.ones_like(losses) if weights is None else weights
    if reduction == "none":
        return weights * losses
    if reduction == "sum":
        return jnp.sum(weights * losses)
    if reduction == "mean":
        total = jnp.sum(weights)
        return jnp.where(total > 0, jnp.sum(weights * losses) / jnp.where(total > 0, total, 1.0), 0.0)
    raise ValueError(f"reduction must be 'sum', 'mean' or 'none', got {reduction!r}")
