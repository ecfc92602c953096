"""History encoders by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from retrieval.common.choices import did_you_mean
from retrieval.models.history import visibility
from retrieval.models.history.attention import AttentionPooling
from retrieval.models.history.bags import MeanBag, PowerBag, WeightedBag
from retrieval.models.history.hstu import Hstu
from retrieval.models.history.recurrent import Gru
from retrieval.models.history.transformer import Transformer


class Options(NamedTuple):
    """What an encoder is created from, see `create`."""

    dimension: int
    length: int
    layers: int
    heads: int
    dropout: float
    visible: str
    dtype: DTypeLike
    rngs: nnx.Rngs

    def pick(self, *names: str) -> dict[str, object]:
        """Returns the options of these names."""
        return {name: getattr(self, name) for name in names}


ENCODERS: dict[str, Callable[[Options], nnx.Module]] = {
    "recency": lambda options: PowerBag(**options.pick("dtype")),
    "mean": lambda options: MeanBag(visible=options.visible),
    "weighted": lambda options: WeightedBag(options.dimension, **options.pick("length", "visible", "dtype")),
    "attention": lambda options: AttentionPooling(
        options.dimension, **options.pick("length", "heads", "visible", "dtype", "rngs")
    ),
    "gru": lambda options: Gru(options.dimension, **options.pick("layers", "dropout", "dtype", "rngs")),
    "transformer": lambda options: Transformer(
        options.dimension, **options.pick("length", "layers", "heads", "dropout", "dtype", "rngs")
    ),
    "hstu": lambda options: Hstu(
        options.dimension, **options.pick("length", "layers", "heads", "dropout", "dtype", "rngs")
    ),
}
CAUSAL = ("gru", "transformer", "hstu")  # output p holds token p + 1 as soon as a later one is visible
PAST = ("recency", *CAUSAL)  # "recency" is about the order of the past


def create(
    name: str,
    dimension: int,
    *,
    length: int,
    layers: int,
    heads: int,
    dropout: float,
    visible: str,
    rngs: nnx.Rngs,
    dtype: DTypeLike = jnp.float32,
) -> nnx.Module:
    """Returns an encoder as `retrieval.models.history` describes it.

    Args:
      name: one of `ENCODERS`.
      dimension: of the tokens and of the outputs.
      length: the most tokens of a history.
      layers: number of layers, of "gru", "transformer" and "hstu".
      heads: heads of attention, of "attention", "transformer" and "hstu".
      dropout: probability that training sets a value to 0, in "gru", "transformer" and "hstu".
      visible: "past", or "others" for "mean", "weighted" and "attention".
      rngs: random streams of the initial values.
      dtype: of the parameters.

    Raises:
      ValueError: the name is unknown, `visible` is unknown or would show the target to a later layer or state, or
        `heads` does not divide the dimension.
    """
    if name not in ENCODERS:
        raise ValueError(f"no history encoder {name!r}, only {', '.join(ENCODERS)}{did_you_mean(name, ENCODERS)}")
    if visibility.check(visible) == "others" and name in PAST:
        why = "would show it the candidate that it is to predict, through the states of the tokens after it"
        raise ValueError(
            f"{name!r} cannot have visible='others', which {why if name in CAUSAL else 'has no order'}; take "
            f"visible='past', or one of {', '.join(n for n in ENCODERS if n not in PAST)}"
        )
    return ENCODERS[name](Options(dimension, length, layers, heads, dropout, visible, dtype, rngs))
