"""Losses of the prediction of a label of an interaction, such as its rating."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def squared_error(predictions: Float[Array, "B"], labels: Float[Array, "B"]) -> Float[Array, "B"]:
    """Returns (p - y)^2 of each example; 0, with a gradient of 0, for an unknown label (NaN).

    >>> squared_error(jnp.array([3.0, 4.0]), jnp.array([5.0, jnp.nan])).tolist()
    [4.0, 0.0]
    """
    return (predictions - jnp.where(jnp.isnan(labels), predictions, labels)) ** 2


def log_loss(log_odds: Float[Array, "B"], labels: Float[Array, "B"]) -> Float[Array, "B"]:
    """Returns the binary cross-entropy of each example in nats; 0, with a gradient of 0, for an unknown label (NaN).

    It is computed from log-odds x as -log sigmoid(x) = log(1 + e^-x), so that no probability is rounded to 0 or 1.

    Args:
      log_odds: predicted log-odds of the label 1 [B].
      labels: 0, 1 or NaN [B].

    >>> log_loss(jnp.array([0.0, jnp.log(3.0), 1.0]), jnp.array([1.0, 0.0, jnp.nan])).round(4)
    Array([0.6931, 1.3863, 0.    ], dtype=float32)
    """
    known = ~jnp.isnan(labels)
    losses = jax.nn.softplus(jnp.where(labels == 1, -log_odds, log_odds))
    return jnp.where(known, losses, 0.0)
