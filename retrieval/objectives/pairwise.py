"""Objectives of a positive against single negatives.

Negatives are the shared negatives of the batch if it has any (see `batching.negatives.Negatives`), else the positives
of its other examples, which follow popularity. The example's own positive is no negative of it.
"""

from __future__ import annotations

import dataclasses

import jax
from jaxtyping import Array, Float

from retrieval import losses
from retrieval.batching.batch import Batch
from retrieval.losses.row_sets import RowSets
from retrieval.objectives.base import Objective, counts, known_in, static


@dataclasses.dataclass(frozen=True)
class Pairwise(Objective):
    """A mean over the negatives that all examples of the batch share.

    Attributes:
      known_positives: candidate rows of each query row's positives in the training part; None: a query's other
        positives are negatives of it.
    """

    known_positives: RowSets | None = None

    def loss_arguments(self, queries: Float[Array, "U D"], candidates: Float[Array, "V D"], batch: Batch) -> dict:
        """Returns the arguments that the pairwise losses share."""
        return {
            "queries": queries,
            "candidates": candidates,
            "query_indices": batch.queries.indices,
            "candidate_indices": batch.candidates.indices,
            "counts": counts(batch, positives=not batch.negatives.shared.size),
            "known_positives": known_in(batch, self.known_positives),
            "reduction": "none",
        }


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class CosineContrastive(Pairwise):
    """Cosine contrastive loss of SimpleX, see `losses.cosine_contrastive`.

    It ignores the norms of the embeddings: train towers that normalise their outputs, without a popularity prior, so
    that serving ranks by the trained scores.

    Attributes:
      margin: a negative with a cosine below it has the loss 0.
      negative_weight: weight of the mean over the negatives; the positive has the weight 1.
    """

    name = "cosine_contrastive"
    options = ("remove_known_positives", "margin", "negative_weight")
    scores_are_cosines = True

    margin: float = static(kw_only=True)
    negative_weight: float = static(kw_only=True)

    def terms(self, queries: Float[Array, "U D"], candidates: Float[Array, "V D"], batch: Batch) -> Float[Array, "B"]:
        """Returns the cosine contrastive loss of each example."""
        settings = {"margin": self.margin, "negative_weight": self.negative_weight}
        return losses.cosine_contrastive(**self.loss_arguments(queries, candidates, batch), **settings)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class BPR(Pairwise):
    """Bayesian personalised ranking, see `losses.bpr`."""

    name = "bpr"
    options = ("remove_known_positives",)

    def terms(self, queries: Float[Array, "U D"], candidates: Float[Array, "V D"], batch: Batch) -> Float[Array, "B"]:
        """Returns the ranking loss of each example."""
        return losses.bpr(**self.loss_arguments(queries, candidates, batch))
