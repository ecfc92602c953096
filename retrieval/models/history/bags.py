"""Bags: weighted sums and means of a history's tokens, by running sums."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from retrieval.common.choices import check_choice
from retrieval.models.history import visibility
from retrieval.models.history.visibility import VISIBLE


class MeanBag(nnx.Module):
    """Averages the visible tokens; START where no token is visible. No parameters. O(B M D)."""

    def __init__(self, *, visible: str):
        """Creates the encoder; `visible` is "past" or "others"."""
        check_choice("visible", visible, VISIBLE)
        self.visible = visible

    def __call__(
        self, tokens: Float[Array, "B M D"], real: Bool[Array, "B M"], times: Int[Array, "B M"] | None = None
    ) -> Float[Array, "B M D"]:
        return decayed_mean(tokens, real, jnp.ones(1), self.visible)


class WeightedBag(nnx.Module):
    """Averages the visible tokens with exponentially decaying weights, one learned decay per dimension. O(B M D).

    The n-th visible token before the target has a weight proportional to decay ** n; with `visible="others"`, so has
    the n-th token after it. A moving average as in Ma et al. 2023 (Mega, section 3.1), with weights that sum to 1.
    """

    def __init__(self, dimension: int, *, length: int, visible: str, dtype: DTypeLike = jnp.float32):
        """Creates the encoder.

        Args:
          dimension: D, size of the tokens. Initial decays are 1 - 1 / m, with memories m from 2 to `length`
            interactions, evenly spaced in logarithms over the dimensions.
          length: largest number of interactions in a history.
          visible: "past" or "others".
          dtype: type of the parameters.
        """
        check_choice("visible", visible, VISIBLE)
        self.visible = visible
        memory = 2.0 * (max(length, 2) / 2.0) ** jnp.linspace(0.0, 1.0, dimension)
        self.decay_logits = nnx.Param(jnp.log(memory - 1).astype(dtype))  # sigmoid(log(m - 1)) = 1 - 1/m

    def __call__(
        self, tokens: Float[Array, "B M D"], real: Bool[Array, "B M"], times: Int[Array, "B M"] | None = None
    ) -> Float[Array, "B M D"]:
        decay = jax.nn.sigmoid(self.decay_logits[...].astype(jnp.float32))
        return decayed_mean(tokens, real, decay, self.visible)


class PowerBag(nnx.Module):
    """Sums the past tokens, where the n-th most recent one has weight scale * n ** -power; START without any.

    Scale and power are learned. O(B M^2 D). In contrast to a mean, the sum grows with the history: the more is known
    of a query, the further its ranking departs from popularity.
    """

    def __init__(self, *, dtype: DTypeLike = jnp.float32):
        """Creates the encoder; scale and power start at 1."""
        self.log_scale = nnx.Param(jnp.zeros((), dtype))
        self.power = nnx.Param(jnp.ones((), dtype))

    def __call__(
        self, tokens: Float[Array, "B M D"], real: Bool[Array, "B M"], times: Int[Array, "B M"] | None = None
    ) -> Float[Array, "B M D"]:
        number = jnp.cumsum(real, axis=1)
        recency = (number[:, :, None] - number[:, None, :] + 1).astype(jnp.float32)  # 1: the most recent real token
        seen = visibility.mask(real, "past")
        power, log_scale = (parameter[...].astype(jnp.float32) for parameter in (self.power, self.log_scale))
        # The inner `where` keeps log away from 0 and negative numbers, whose gradients would be NaN.
        weights = jnp.where(seen, jnp.exp(log_scale - power * jnp.log(jnp.where(seen, recency, 1.0))), 0.0)
        terms = jnp.where(real[..., None], tokens.astype(jnp.float32), 0.0)
        sums = jnp.einsum("bpq,bqd->bpd", weights, terms, precision="highest")
        return jnp.where((number > 0)[..., None], sums.astype(tokens.dtype), tokens)


def decayed_mean(
    tokens: Float[Array, "B M D"], real: Bool[Array, "B M"], decay: Float[Array, "_"], visible: str
) -> Float[Array, "B M D"]:
    """Averages the visible tokens, weighted by decay ** (number of real tokens in between); token p if none is visible.

    Args:
      tokens: the tokens.
      real: which tokens may be visible.
      decay: decays in [0, 1], one for each dimension or one for all.
      visible: "past" or "others".

    >>> tokens, real = jnp.array([[[9.0], [1.0], [4.0]]]), jnp.array([[False, True, True]])
    >>> decayed_mean(tokens, real, jnp.ones(1), "past")[0, :, 0].tolist()
    [9.0, 1.0, 2.5]
    >>> decayed_mean(tokens, real, jnp.ones(1), "others")[0, :, 0].tolist()
    [4.0, 1.0, 2.5]
    """
    sums, weights = _running_sums(tokens, real, decay, reverse=False)
    if visible == "others":
        after = _running_sums(tokens, real, decay, reverse=True)
        # Sums of tokens from p + 2 on. Subtracting token p + 1 from sums of all would leave its rounding errors.
        later = [jnp.pad(sums, ((0, 0), (0, 2), (0, 0)))[:, 2:] for sums in after]
        sums, weights = sums + later[0], weights + later[1]
    means = sums / jnp.where(weights > 0, weights, 1.0)
    return jnp.where(weights > 0, means.astype(tokens.dtype), tokens)


def _running_sums(
    tokens: Float[Array, "B M D"], real: Bool[Array, "B M"], decay: Float[Array, "_"], *, reverse: bool
) -> tuple[Float[Array, "B M D"], Float[Array, "B M _"]]:
    """Returns float32 sums of the decayed tokens up to (in reverse: from) each position, and of their weights."""
    decays = jnp.where(real[..., None], decay[None, None], 1.0)
    terms = jnp.where(real[..., None], tokens.astype(jnp.float32), 0.0)
    ones = jnp.broadcast_to(real[..., None].astype(jnp.float32), decays.shape)

    def step(sums, inputs):
        decay, *terms = inputs
        sums = tuple(decay * total + term for total, term in zip(sums, terms, strict=True))
        return sums, sums

    columns = tuple(column.swapaxes(0, 1) for column in (decays, terms, ones))
    start = tuple(jnp.zeros_like(column[0]) for column in columns[1:])
    _, sums = jax.lax.scan(step, start, columns, reverse=reverse)
    return sums[0].swapaxes(0, 1), sums[1].swapaxes(0, 1)
