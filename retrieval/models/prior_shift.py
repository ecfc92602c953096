"""A trained model whose answers follow the popularity of the time that it answers at."""

from __future__ import annotations

import types
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from retrieval.data.vocabulary import UNKNOWN_ROW
from retrieval.models.tables import Fixed
from retrieval.models.two_tower import OFFSET_SCALE, Embeddings, Rows, TwoTower


class PriorShift(nnx.Module):
    """Adds to the scores of a trained model how far each candidate's log-probability has moved since.

    A softmax learns the probability of candidates as it was in all of train. Where that changes, and what draws a query
    to a candidate does not, Bayes' rule gives today's: times the ratio of the priors, which is a sum of logs (Saerens,
    Latinne and Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities", equation 2.4).
    Queries that train does not know have a ratio of their own. Both are dimensions of the embeddings, so that the score
    stays a dot product; embeddings are float32.
    """

    def __init__(self, model: TwoTower, shift: Float[np.ndarray, "N 2"], num_known: int):
        """Creates the model.

        Args:
          model: the trained model.
          shift: what each candidate row's score gains, for queries that train does not know, and for those it does.
          num_known: query rows that train knows, the unknown row 0 included; rows behind them have features alone.
        """
        self.model = model
        self.shift = Fixed(jnp.asarray(shift, jnp.float32))
        self.num_known = num_known

    def query(self, rows: Rows, context: Mapping[str, Array] = types.MappingProxyType({})) -> Embeddings:
        """Returns the embeddings of query rows, in the context of the columns that the tower reads [B, ...] each."""
        is_known = (rows != UNKNOWN_ROW) & (rows < self.num_known)
        which = jnp.stack([~is_known, is_known], axis=-1)
        return _beside(self.model.query(rows, context), OFFSET_SCALE * which.astype(jnp.float32))

    def candidate(self, rows: Int[Array, "B"]) -> Embeddings:
        """Returns the embeddings of candidate rows."""
        return _beside(self.model.candidate(rows), self.shift[...][rows] / OFFSET_SCALE)


def _beside(embeddings: Embeddings, columns: Float[Array, "B 2"]) -> Float[Array, "B E"]:
    return jnp.concatenate([embeddings.astype(jnp.float32), columns], axis=-1)
