"""The registry of history encoders: their classes by name, with what other rooms need to know of each."""

from __future__ import annotations

import dataclasses
import inspect

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from retrieval.common.choices import check_choice
from retrieval.models.history.attention import AttentionPooling
from retrieval.models.history.bags import MeanBag, PowerBag, WeightedBag
from retrieval.models.history.hstu import Hstu
from retrieval.models.history.recurrent import Gru
from retrieval.models.history.transformer import Transformer
from retrieval.models.history.visibility import VISIBLE


@dataclasses.dataclass(frozen=True)
class HistoryEncoder:
    """An entry of the registry.

    Attributes:
      title: the encoder's name in text.
      module: the encoder's class; `create` passes the arguments that its constructor names.
      visible: the values of `visible` that the encoder takes.
      reads_times: whether outputs depend on the times of the interactions, beyond their order.
    """

    title: str
    module: type[nnx.Module]
    visible: tuple[str, ...] = ("past",)
    reads_times: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the constructor's arguments."""
        parameters = inspect.signature(self.module.__init__).parameters.values()
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)  # no *args of a default init
        return tuple(parameter.name for parameter in parameters if parameter.kind in named)[1:]  # without `self`


# Bags and pooling read each token by itself, so that one token can be left out. A state, or an output of a layer,
# holds all tokens that it saw: with later ones visible, output p would hold token p + 1, its own target. Recency
# weighs tokens by their place in the past, which the tokens after the target do not have.
ENCODERS: dict[str, HistoryEncoder] = {
    "recency": HistoryEncoder("recency-weighted sum", PowerBag),
    "mean": HistoryEncoder("mean", MeanBag, visible=VISIBLE),
    "weighted": HistoryEncoder("learned moving average", WeightedBag, visible=VISIBLE),
    "attention": HistoryEncoder("attention pooling", AttentionPooling, visible=VISIBLE),
    "gru": HistoryEncoder("gated recurrent units (GRU4Rec)", Gru),
    "transformer": HistoryEncoder("causal Transformer (SASRec)", Transformer),
    "hstu": HistoryEncoder("hierarchical sequential transduction units (HSTU)", Hstu, reads_times=True),
}


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
    """Creates an encoder as `retrieval.models.history` describes it.

    Args:
      name: key of `ENCODERS`.
      dimension: D, size of the tokens and of the outputs.
      length: largest number of interactions in a history.
      layers: number of layers; encoders whose constructor does not name it ignore it, likewise the next two.
      heads: number of attention heads, a divisor of D.
      dropout: probability that training sets a value to 0.
      visible: the tokens that an output depends on: "past", or "others" for encoders that take it.
      rngs: random streams of the initial values.
      dtype: type of the parameters.

    Raises:
      ValueError: `name` or `visible` is unknown, the encoder does not take `visible`, or `heads` does not divide D.
    """
    check_choice("encoder", name, ENCODERS)
    check_choice("visible", visible, VISIBLE)
    encoder = ENCODERS[name]
    if visible not in encoder.visible:
        able = ", ".join(other for other, entry in ENCODERS.items() if visible in entry.visible)
        raise ValueError(
            f"encoder {name!r} cannot have visible={visible!r}: its output would hold the candidate to predict, or "
            f"has no meaning after it; take visible='past', or one of {able}"
        )
    arguments = {
        "dimension": dimension,
        "length": length,
        "layers": layers,
        "heads": heads,
        "dropout": dropout,
        "visible": visible,
        "rngs": rngs,
        "dtype": dtype,
    }
    return encoder.module(**{name: arguments[name] for name in encoder.arguments})
