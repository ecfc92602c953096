"""Masks of the tokens of a history that an output may depend on."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool

VISIBLE = ("past", "others")


def mask(real: Bool[Array, "B M"], visible: str) -> Bool[Array, "B M M"]:
    """Returns a mask [b, p, k] of the real tokens k that output p may depend on: k <= p, or all k except p + 1.

    >>> mask(jnp.array([[False, True, True]]), "past").astype(int).tolist()
    [[[0, 0, 0], [0, 1, 0], [0, 1, 1]]]
    >>> mask(jnp.array([[False, True, True]]), "others").astype(int).tolist()
    [[[0, 0, 1], [0, 1, 0], [0, 1, 1]]]
    """
    positions = jnp.arange(real.shape[1])
    p, k = positions[:, None], positions[None, :]
    return (k <= p if visible == "past" else k != p + 1)[None] & real[:, None, :]


def with_itself(seen: Bool[Array, "B M M"]) -> Bool[Array, "B M M"]:
    """Adds each position's own token to the mask, so that every row of a softmax has an entry."""
    return seen | jnp.eye(seen.shape[1], dtype=bool)[None]
