"""Models side by side: the sum of their scores, as one dot product."""

from __future__ import annotations

import types
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32, Int

from retrieval.data.vocabulary import UNKNOWN_ROW
from retrieval.models.embedding_table import Fixed


class FixedTowers(nnx.Module):
    """Embeddings that are given, by row; those of a row that is not given are 0."""

    context = ()

    def __init__(self, queries: Float32[np.ndarray, "Q D"], candidates: Float32[np.ndarray, "N D"]):
        """Holds the embedding of each row, that of the unknown row first."""
        self.queries = Fixed(jnp.asarray(queries))
        self.candidates = Fixed(jnp.asarray(candidates))

    def query(
        self, rows: Int[Array, "B"], context: Mapping[str, Array] = types.MappingProxyType({})
    ) -> Float[Array, "B D"]:
        """Returns the embeddings of query rows."""
        return _at(self.queries, rows)

    def candidate(
        self, rows: Int[Array, "B"], context: Mapping[str, Array] = types.MappingProxyType({})
    ) -> Float[Array, "B D"]:
        """Returns the embeddings of candidate rows."""
        return _at(self.candidates, rows)


class Blend(nnx.Module):
    """Two models whose scores are added: their embeddings stand side by side, in float32."""

    def __init__(self, first: nnx.Module, second: nnx.Module):
        """Joins two models with `query`, `candidate` and `context`."""
        self.first = first
        self.second = second

    @property
    def context(self) -> tuple[str, ...]:
        """Names of the columns that their query towers read."""
        return self.first.context + self.second.context

    def query(
        self, rows: Int[Array, "B"], context: Mapping[str, Array] = types.MappingProxyType({})
    ) -> Float[Array, "B D"]:
        """Returns the embeddings of query rows."""
        return _beside([model.query(rows, context) for model in (self.first, self.second)])

    def candidate(
        self, rows: Int[Array, "B"], context: Mapping[str, Array] = types.MappingProxyType({})
    ) -> Float[Array, "B D"]:
        """Returns the embeddings of candidate rows."""
        return _beside([model.candidate(rows, context) for model in (self.first, self.second)])

    def predict(self, queries: Float[Array, "B D"], candidates: Float[Array, "B D"]) -> dict[str, Float[Array, "B"]]:
        """Returns what the heads of the first model expect of pairs of embeddings; the second has none."""
        width = queries.shape[1] - self.second.queries.shape[1]
        return self.first.predict(queries[:, :width], candidates[:, :width])


def _at(embeddings: Fixed, rows: Int[Array, "B"]) -> Float[Array, "B D"]:
    given = embeddings[...]
    return given[jnp.where(rows < len(given), rows, UNKNOWN_ROW)]


def _beside(embeddings: list[Float[Array, "B _"]]) -> Float[Array, "B D"]:
    return jnp.concatenate([of.astype(jnp.float32) for of in embeddings], axis=1)
