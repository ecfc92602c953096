"""A query tower over the query's last interactions."""

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
    """An embedding of the most recent interaction alone, which models first-order transitions."""

    def __init__(self, num_rows: int, dimension: int, *, dropout: float, initial_scale: float, dtype, rngs: nnx.Rngs):
        """Creates a table of `num_rows` candidate rows; row 0 stands for an empty history."""
        normal = nnx.initializers.truncated_normal(initial_scale)
        self.table = EmbeddingTable(num_rows, dimension, initializer=normal, dtype=dtype, rngs=rngs)
        self.num_rows = num_rows
        self.dropout = Dropout(dropout)

    def __call__(self, history: Int[Array, "S L"]) -> Float[Array, "S L+1 D"]:
        """Returns the embedding of the last interaction before each position, and before the end."""
        rows = jnp.pad(history, ((0, 0), (1, 0)))
        return self.dropout(self.table(jnp.where(rows < self.num_rows, rows, UNKNOWN_ROW)))


class HistoryTower(nnx.Module):
    """The output of a history encoder, plus the output of a tower over the query's features.

    A history holds rows of candidates [S, L], right-aligned, padded with 0. In training each position predicts the
    candidate at that position (`positions`); in serving the whole history predicts the next candidate (a call).
    Windows in training are one interaction longer than histories in serving, so that the last target has as many
    interactions before it as a query in serving.

    Attributes:
      context: names of the example's columns that the tower reads.
      history_columns: names of the columns of `context` that describe the history.
      looks_ahead: whether outputs depend on interactions after the target.
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
          items: candidate rows [B] -> item embeddings of the tokens [B, D]: a candidate tower, whose parameters are
            then shared, or a table.
          num_items: number of candidate rows.
          tokens: adds the side inputs of each interaction to the item embeddings.
          encoder: an encoder as `retrieval.models.history` describes it.
          last: embedding of the most recent interaction, added to the output; None: nothing is added.
          features: tower over the query's row and the example's columns; None: the history alone counts.
          reads_times: whether the encoder gets the times of the interactions.
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
        """Returns the embeddings of queries after their whole history."""
        outputs = self._encode(context)[:, -1]
        return outputs if self.features is None else outputs + self.features(rows, **self._feature_columns(context))

    def positions(self, rows: Int[Array, "S"], **context: Shaped[Array, "S L ..."]) -> Float[Array, "S L D"]:
        """Returns the embeddings of queries at each position, from the interactions that may predict it.

        The interaction at the position never contributes, and later ones only if the encoder looks ahead.

        Args:
          rows: query row of each window.
          **context: columns of the history [S, L], and columns of the features at each position [S, L, ...].
        """
        read = context
        if not self.looks_ahead:  # no output reads the last interaction, which is a target only: save its token
            read = {
                name: column[:, :-1] if name in self.history_columns else column for name, column in context.items()
            }
        outputs = self._encode(read)[:, : context[HISTORY].shape[1]]
        if self.features is None:
            return outputs
        if not self.features.context:
            return outputs + self.features(rows)[:, None]
        size, length, dimension = outputs.shape
        columns = {name: column.reshape(size * length, -1) for name, column in self._feature_columns(context).items()}
        return outputs + self.features(jnp.repeat(rows, length), **columns).reshape(size, length, dimension)

    def _feature_columns(self, context):
        return {name: column for name, column in context.items() if name not in self.history_columns}

    def _encode(self, context) -> Float[Array, "S M D"]:
        history = context[HISTORY]
        history = jnp.where(history < self.num_items, history, PADDING)  # rows beyond the table tell nothing
        tokens, real = self.tokens(
            self._embed(history), history != PADDING, context.get(RATINGS), context.get(GAPS), context.get(AGES)
        )
        # Token 0 has time 0; it is never visible to others.
        times = jnp.pad(context[TIMES], ((0, 0), (1, 0))) if TIMES in context else None
        outputs = self.encoder(tokens, real, times)
        return outputs if self.last is None else outputs + self.last(history)

    def _embed(self, history: Int[Array, "S L"]) -> Float[Array, "S L D"]:
        """Returns the embeddings of the history's candidates.

        With more positions than candidates, each candidate is embedded once and looked up. A program that is exported
        for any number of histories embeds each position: it serves few histories at a time.
        """
        if jax_export.is_symbolic_dim(history.size) or history.size <= self.num_items:
            embeddings = self.items(history.reshape(-1))
            return embeddings.reshape(*history.shape, embeddings.shape[-1])
        return self.items(jnp.arange(self.num_items, dtype=history.dtype))[history]
