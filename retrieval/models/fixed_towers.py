"""Fixed embeddings as a model, and the sum of the scores of two models as one dot product."""

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
    """A model of fixed query and candidate embeddings, as those of a linear item-item model; nothing is trained."""

    context = ()

    def __init__(self, queries: Float32[np.ndarray, "Q D"], candidates: Float32[np.ndarray, "N D"]):
        """Holds the embedding of each row, the unknown row 0 first; rows beyond the arrays read row 0."""
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
    """Adds the scores of two models: their embeddings are concatenated, in float32."""

    def __init__(self, first: nnx.Module, second: nnx.Module):
        """Joins two models that have `query`, `candidate` and `context`."""
        self.first = first
        self.second = second

    @property
    def context(self) -> tuple[str, ...]:
        """Names of the columns that the two query towers read."""
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
        """Returns the predictions of the first model's heads for pairs of embeddings; the second model has none."""
        width = queries.shape[1] - self.second.queries.shape[1]  # of the first model's embeddings
        return self.first.predict(queries[:, :width], candidates[:, :width])


def _at(embeddings: Fixed, rows: Int[Array, "B"]) -> Float[Array, "B D"]:
    array = embeddings[...]
    return array[jnp.where(rows < len(array), rows, UNKNOWN_ROW)]


def _beside(embeddings: list[Float[Array, "B _"]]) -> Float[Array, "B D"]:
    return jnp.concatenate([embedding.astype(jnp.float32) for embedding in embeddings], axis=1)
