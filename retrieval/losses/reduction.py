"""Reduces the losses of the examples of a batch to the value that a training step minimises."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def reduce(
    losses: Float[Array, "B"], weights: Float[Array, "B"] | None, reduction: str
) -> Float[Array, ""] | Float[Array, "B"]:
    """Returns the weighted losses ("none"), their sum ("sum"), or their sum over the sum of the weights ("mean").

    With "sum" the best learning rate depends on the batch size. The mean is 0 if all weights are 0.

    Args:
      losses: loss of each example [B].
      weights: weight of each example [B]; None: 1.
      reduction: "sum", "mean" or "none".

    Raises:
      ValueError: the reduction is unknown.

    >>> float(reduce(jnp.array([1.0, 4.0]), jnp.array([2.0, 1.0]), "mean"))
    2.0
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
