"""An in-batch softmax with corrections from the training data."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from retrieval import losses
from retrieval.batching.batch import Batch
from retrieval.data.popularity import entropy
from retrieval.losses.column_sums import scores_at
from retrieval.losses.row_sets import RowSets
from retrieval.models.two_tower import TwoTower
from retrieval.objectives.base import Objective, counts, embeddings, known_in, static


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class InBatchSoftmax(Objective):
    """Each query's positive against the other candidates of the batch.

    Attributes:
      known_positives: candidate rows of each query row's positives in train; None: a query's other positives stay its
        negatives.
      log_q: corrects for the probabilities of the batch's candidates.
      temperature: divides the scores.
      scale_log_q: divides the logQ correction by the temperature too.
      remove_accidental_hits: removes negatives that are the positive itself.
      num_hard_negatives: keeps only the hardest negatives; 0: all.
      label_smoothing: share of the target that is spread over the columns that are left.
    """

    name = "in_batch_softmax"
    options = (
        *("temperature", "log_q", "remove_accidental_hits", "remove_known_positives"),
        "num_hard_negatives",
    )
    scores_are_log_probabilities = True
    reads_dislikes = True

    known_positives: RowSets | None = None
    log_q: bool = static(default=False)
    temperature: float = static(default=1.0)
    scale_log_q: bool = static(default=False)
    remove_accidental_hits: bool = static(default=False)
    num_hard_negatives: int = static(default=0)
    label_smoothing: float = static(default=0.0)

    def terms(self, queries: Float[Array, "U D"], candidates: Float[Array, "V D"], batch: Batch) -> Float[Array, "B"]:
        """Returns the cross-entropy of each example's positive.

        Hard negatives are chosen among the columns of the unfolded batch, which then costs O(B (B + M) D).
        """
        common = {"temperature": self.temperature, "scale_log_q": self.scale_log_q, "reduction": "none"}
        common |= {"label_smoothing": self.label_smoothing}
        if self.num_hard_negatives:
            columns = self.columns(queries, candidates, batch)
            return losses.sampled_softmax(**columns, num_hard_negatives=self.num_hard_negatives, **common)
        return losses.folded_softmax(
            queries,
            candidates,
            batch.queries.indices,
            batch.candidates.indices,
            counts(batch, positives=True),
            sampling_probabilities=batch.probabilities if self.log_q else None,
            remove_accidental_hits=self.remove_accidental_hits,
            known_positives=known_in(batch, self.known_positives),
            own_negatives=self.own_negatives(batch) if batch.negatives.own.shape[1] else None,
            **common,
        )

    def trivial_loss(self, counts: Float[np.ndarray, "N"]) -> float:
        """Returns the entropy of popularity, which the loss of an in-batch softmax estimates with logQ."""
        return entropy(counts)

    def own_negatives(self, batch: Batch) -> losses.OwnNegatives:
        """Returns the draws from what each query disliked, which stand for all that it disliked.

        With logQ, the columns of the batch stand for the sum over the whole corpus, times their number; H draws from n
        disliked candidates stand for the sum over those when each counts n / H, times the same number.
        """
        own = batch.negatives.own
        log_weights = jnp.zeros(own.shape)
        if self.log_q:
            columns = jnp.sum(batch.real) + jnp.sum(batch.negatives.shared >= 0)
            number = jnp.maximum(batch.negatives.num_disliked, 1).astype(jnp.float32)
            log_weights += jnp.log(number * columns.astype(jnp.float32) / own.shape[1])[:, None] / self._log_q_scale
        return losses.OwnNegatives(jnp.maximum(own, 0), jnp.where(own < 0, -jnp.inf, log_weights))

    @property
    def _log_q_scale(self) -> float:
        return self.temperature if self.scale_log_q else 1.0

    def columns(
        self, queries: Float[Array, "U D"], candidates: Float[Array, "V D"], batch: Batch
    ) -> dict[str, Array | None]:
        """Returns the unfolded batch as `losses.sampled_softmax` takes it: one column for each example and negative."""
        shared = batch.negatives.shared
        q, c = batch.queries.indices, jnp.concatenate([batch.candidates.indices, jnp.maximum(shared, 0)])
        there = jnp.concatenate([batch.real, shared >= 0])
        rows = batch.candidates.rows[c]
        known = own = None
        if self.known_positives is not None:
            known = self.known_positives.contain(batch.queries.rows[q][:, None], rows[None, :])
        if batch.negatives.own.shape[1]:
            indices, log_weights = self.own_negatives(batch)
            own = scores_at(queries[q], candidates, indices) / self.temperature + log_weights
        return {
            "queries": queries[q],
            "candidates": candidates[c],
            "sampling_probabilities": batch.probabilities[c] if self.log_q else None,
            "accidental_hits_of": rows if self.remove_accidental_hits else None,
            "known_positives": known,
            "mask": jnp.broadcast_to(there[None, :], (len(q), len(c))),
            "own_negatives": own,
        }

    def explain(self, model: TwoTower, batch: Batch, example: int = 0, top: int = 10) -> str:
        """Returns a table of one example's logits and every correction of them, see `losses.explain`.

        Column j < B is the positive of example j; then come the negatives that all share, then the example's own.

        Args:
          model: the model.
          batch: one batch, with or without a leading axis of length 1.
          example: which of its examples.
          top: how many of the columns with the highest scores to show.
        """
        if batch.real.ndim == 2:
            batch = jax.tree.map(lambda column: column[0], batch)
        queries, candidates, batch = embeddings(model, jax.tree.map(jnp.asarray, batch))
        columns = self.columns(queries, candidates, batch)
        names = "temperature", "scale_log_q", "num_hard_negatives", "label_smoothing"
        return losses.explain(**columns, example=example, top=top, **{name: getattr(self, name) for name in names})
