"""Losses of what is predicted of an interaction, where its label is known."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def squared_error(predictions: Float[Array, "B"], labels: Float[Array, "B"]) -> Float[Array, "B"]:
    """Returns (p - y)^2 of each example; 0, with a gradient of 0, where the label is NaN: not known.

    >>> squared_error(jnp.array([3.0, 4.0]), jnp.array([5.0, jnp.nan])).tolist()
    [4.0, 0.0]
    """
    return (predictions - jnp.where(jnp.isnan(labels), predictions, labels)) ** 2


def log_loss(log_odds: Float[Array, "B"], labels: Float[Array, "B"]) -> Float[Array, "B"]:
    """Returns -log of the probability of each label, 0 or 1, in nats; 0, with a gradient of 0, where it is NaN.

    From log-odds x, -log sigmoid(x) = log(1 + e^-x): no probability is rounded to 0 or 1.

    >>> log_loss(jnp.array([0.0, jnp.log(3.0), 1.0]), jnp.array([1.0, 0.0, jnp.nan])).round(4)
    Array([0.6931, 1.3863, 0.    ], dtype=float32)
    """
    known = ~jnp.isnan(labels)
    losses = jax.nn.softplus(jnp.where(labels == 1, -log_odds, log_odds))
    return jnp.where(known, losses, 0.0)
