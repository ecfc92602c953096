"""A query tower over what the query did last."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from flax import nnx
from jax import export as jax_export
from jaxtyping import Array, Float, Int, Shaped

from retrieval.data.sequences import PADDING
from retrieval.data.vocabulary import UNKNOWN_ROW
from retrieval.features.context import AGES, GAPS, HISTORY, RATINGS, TIMES
from retrieval.models.embedding_table import EmbeddingTable
from retrieval.models.feature_tower import FeatureTower
from retrieval.models.history import Tokens
from retrieval.models.layers import Dropout


class LastEmbedding(nnx.Module):
    """An embedding of the most recent interaction alone: what follows it, as a first-order transition does."""

    def __init__(self, num_rows: int, dimension: int, *, dropout: float, initial_scale: float, dtype, rngs: nnx.Rngs):
        """Creates a table of `num_rows` candidate rows; row 0 stands for an empty history."""
        normal = nnx.initializers.truncated_normal(initial_scale)
        self.table = EmbeddingTable(num_rows, dimension, initializer=normal, dtype=dtype, rngs=rngs)
        self.num_rows = num_rows
        self.dropout = Dropout(dropout)

    def __call__(self, history: Int[Array, "S L"]) -> Float[Array, "S L+1 D"]:
        """Returns the embedding of what came last before each position, and after all."""
        rows = jnp.pad(history, ((0, 0), (1, 0)))
        return self.dropout(self.table(jnp.where(rows < self.num_rows, rows, UNKNOWN_ROW)))


class HistoryTower(nnx.Module):
    """The sum of what a history encoder makes of the query's last interactions, and of a tower over its features.

    A history is the rows of candidates, right-aligned, 0 in padding [S, L]. In training each of its positions asks for
    the candidate that stands there (`positions`), in serving the whole history for the next one (a call). So that
    training reads as many interactions before a target as serving does, its windows are one longer.
    """

    def __init__(
        self,
        items: Callable[[Int[Array, "B"]], Float[Array, "B D"]],
        num_items: int,
        tokens: Tokens,
        encoder: nnx.Module,
        *,
        last: LastEmbedding | None = None,
        features: FeatureTower | None = None,
        reads_times: bool = False,
    ):
        """Creates the tower.

        Args:
          items: candidate rows [B] -> the embeddings that tokens begin as [B, D]; a candidate tower shares its own.
          num_items: number of candidate rows.
          tokens: adds to them what else is known of an interaction.
          encoder: see `retrieval.models.history`.
          last: of the most recent interaction; None: it counts as its history does.
          features: over the query's row and what comes with the example; None: the history is all.
          reads_times: whether the encoder reads the times of the interactions.
        """
        self.items = items
        self.num_items = num_items
        self.tokens = tokens
        self.encoder = encoder
        self.last = last
        self.features = features
        self.looks_ahead = getattr(encoder, "visible", "past") == "others"
        read = (RATINGS, "ratings"), (GAPS, "gaps"), (AGES, "ages")
        side = [name for name, column in read if column in tokens.tables]
        self.history_columns = (HISTORY, *side, *((TIMES,) if reads_times else ()))
        self.context = self.history_columns + (() if features is None else features.context)
        self.table_columns = () if features is None else features.table_columns

    def __call__(self, rows: Int[Array, "S"], **context: Shaped[Array, "S ..."]) -> Float[Array, "S D"]:
        """Returns the embeddings of queries after all of their history."""
        outputs = self._encode(context)[:, -1]
        return outputs if self.features is None else outputs + self.features(rows, **self._of_features(context))

    def positions(self, rows: Int[Array, "S"], **context: Shaped[Array, "S L ..."]) -> Float[Array, "S L D"]:
        """Returns the embeddings of queries at each position of their history, which neither it nor what follows tells.

        Columns of the example that the features read are those of each position.
        """
        read = context  # nothing past sees the last interaction, which is a target alone
        if not self.looks_ahead:
            read = {name: of[:, :-1] if name in self.history_columns else of for name, of in context.items()}
        outputs = self._encode(read)[:, : context[HISTORY].shape[1]]
        if self.features is None:
            return outputs
        if not self.features.context:
            return outputs + self.features(rows)[:, None]
        size, length, dimension = outputs.shape
        columns = {name: of.reshape(size * length, -1) for name, of in self._of_features(context).items()}
        return outputs + self.features(jnp.repeat(rows, length), **columns).reshape(size, length, dimension)

    def _of_features(self, context):
        return {name: column for name, column in context.items() if name not in self.history_columns}

    def _encode(self, context) -> Float[Array, "S M D"]:
        history = context[HISTORY]
        history = jnp.where(history < self.num_items, history, PADDING)  # nothing is known of those beyond
        tokens, real = self.tokens(
            self._embed(history), history != PADDING, context.get(RATINGS), context.get(GAPS), context.get(AGES)
        )
        times = jnp.pad(context[TIMES], ((0, 0), (1, 0))) if TIMES in context else None
        outputs = self.encoder(tokens, real, times)
        return outputs if self.last is None else outputs + self.last(history)

    def _embed(self, history: Int[Array, "S L"]) -> Float[Array, "S L D"]:
        """Returns the embeddings of the candidates; where there are more places than candidates, each is made once.

        A program for any number of histories is exported for few of them.
        """
        if jax_export.is_symbolic_dim(history.size) or history.size <= self.num_items:
            embeddings = self.items(history.reshape(-1))
            return embeddings.reshape(*history.shape, embeddings.shape[-1])
        return self.items(jnp.arange(self.num_items, dtype=history.dtype))[history]
