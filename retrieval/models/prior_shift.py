"""A trained model whose answers follow the popularity of the time that it answers at."""

from __future__ import annotations

import types
from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from retrieval.models.tables import Fixed
from retrieval.models.two_tower import OFFSET_SCALE, Embeddings, Rows, TwoTower
from retrieval.sampling import UNKNOWN, RecentPrior


class PriorShift(nnx.Module):
    """Adds to the scores of a trained model how far each candidate's log-probability has moved since.

    A softmax learns the probability of candidates as it was in all of train. Where that changes, and what draws a query
    to a candidate does not, Bayes' rule gives today's: times the ratio of the priors (Saerens, Latinne and Decaestecker
    2002, "Adjusting the outputs of a classifier to new a priori probabilities", equation 2.4). Groups of queries have
    ratios of their own, see `sampling.recent_prior`. All are dimensions of the embeddings, so that the score stays a
    dot product; embeddings are float32.
    """

    def __init__(self, model: TwoTower, prior: RecentPrior):
        """Creates the model of a trained one, and of how the priors have moved."""
        self.model = model
        self.shifts, self.mixes, self.groups = (Fixed(jnp.asarray(array)) for array in prior)

    def query(self, rows: Rows, context: Mapping[str, Array] = types.MappingProxyType({})) -> Embeddings:
        """Returns the embeddings of query rows, in the context of the columns that the tower reads [B, ...] each."""
        groups = self.groups[...].at[rows].get(mode="fill", fill_value=UNKNOWN)
        return _beside(self.model.query(rows, context), OFFSET_SCALE * self.mixes[...][groups])

    def candidate(self, rows: Rows) -> Embeddings:
        """Returns the embeddings of candidate rows."""
        return _beside(self.model.candidate(rows), self.shifts[...][rows] / OFFSET_SCALE)


def _beside(embeddings: Embeddings, columns: Float[Array, "B C"]) -> Float[Array, "B E"]:
    return jnp.concatenate([embeddings.astype(jnp.float32), columns], axis=-1)
