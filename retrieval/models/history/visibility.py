"""Which tokens of a history an output may see."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Bool

VISIBLE = ("past", "others")


def mask(real: Bool[Array, "B M"], visible: str) -> Bool[Array, "B M M"]:
    """Returns which real tokens k output p sees, [b, p, k]: those up to p, or all but p + 1.

    >>> mask(jnp.array([[False, True, True]]), "past").astype(int).tolist()
    [[[0, 0, 0], [0, 1, 0], [0, 1, 1]]]
    >>> mask(jnp.array([[False, True, True]]), "others").astype(int).tolist()
    [[[0, 0, 1], [0, 1, 0], [0, 1, 1]]]
    """
    places = jnp.arange(real.shape[1])
    p, k = places[:, None], places[None, :]
    return (k <= p if visible == "past" else k != p + 1)[None] & real[:, None, :]


def with_itself(seen: Bool[Array, "B M M"]) -> Bool[Array, "B M M"]:
    """Returns the mask with each position's own token added, so that no position sees nothing."""
    return seen | jnp.eye(seen.shape[1], dtype=bool)[None]
