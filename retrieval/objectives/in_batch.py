"""In-batch softmax with corrections from the training data."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from retrieval import losses
from retrieval.batching.batch import Batch
from retrieval.losses.column_sums import scores_at
from retrieval.losses.row_sets import RowSets
from retrieval.models.two_tower import TwoTower
from retrieval.objectives.base import Objective, counts, embeddings, known_in, static


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class InBatchSoftmax(Objective):
    """Softmax cross-entropy of each query's positive over the columns of the batch, see `losses.sampled_softmax`.

    Attributes:
      known_positives: candidate rows of each query row's positives in the training part; None: a query's other
        positives are negatives of it.
      log_q: corrects the logits for the sampling probabilities of the batch's candidates.
      temperature: divides the scores.
      scale_log_q: divides the logQ correction by the temperature too.
      remove_accidental_hits: removes negatives with the same row as the positive.
      num_hard_negatives: keeps only that many negatives, those with the highest logits; 0: all.
      label_smoothing: share of the target that is spread over the remaining columns.
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

        O(U V D) time, see `losses.folded_softmax`. Hard negatives are chosen among the columns of the unfolded batch,
        in O(B (B + M) D) time.
        """
        common = {"temperature": self.temperature, "scale_log_q": self.scale_log_q, "reduction": "none"}
        common |= {"label_smoothing": self.label_smoothing}
        # equal candidates count as several of the hardest negatives: their choice has no folded form
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

    def trivial_scores(self, log_prior: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
        """Returns the log-probabilities with logQ, else 0: without it, the negatives account for the popularity.

        Both leave about the same logit to every column of a batch of positives, and the loss is near the log of the
        number of columns.
        """
        return self.temperature / self._log_q_scale * log_prior if self.log_q else np.zeros_like(log_prior)

    def own_negatives(self, batch: Batch) -> losses.OwnNegatives:
        """Returns the draws from each query's disliked candidates, weighted to stand for all of them.

        With logQ, the C columns of the batch estimate C times the sum of exp(score) over the corpus. To add the sum
        over the n disliked candidates of a query on the same scale, each of H draws has the weight C * n / H.
        """
        own = batch.negatives.own
        log_weights = jnp.zeros(own.shape)
        if self.log_q:
            columns = jnp.sum(batch.real) + jnp.sum(batch.negatives.shared >= 0)
            num_disliked = jnp.maximum(batch.negatives.num_disliked, 1).astype(jnp.float32)
            log_weights += (
                jnp.log(num_disliked * columns.astype(jnp.float32) / own.shape[1])[:, None] / self._log_q_scale
            )
        # an absent negative keeps a valid index, for the gather, and the weight exp(-inf) = 0
        return losses.OwnNegatives(jnp.maximum(own, 0), jnp.where(own < 0, -jnp.inf, log_weights))

    @property
    def _log_q_scale(self) -> float:
        return self.temperature if self.scale_log_q else 1.0

    def columns(
        self, queries: Float[Array, "U D"], candidates: Float[Array, "V D"], batch: Batch
    ) -> dict[str, Array | None]:
        """Returns arguments of `losses.sampled_softmax` for the unfolded batch: a column an example and a negative."""
        shared = batch.negatives.shared
        q, c = batch.queries.indices, jnp.concatenate([batch.candidates.indices, jnp.maximum(shared, 0)])
        is_column = jnp.concatenate([batch.real, shared >= 0])
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
            "mask": jnp.broadcast_to(is_column[None, :], (len(q), len(c))),
            "own_negatives": own,
        }

    def explain(self, model: TwoTower, batch: Batch, example: int = 0, top: int = 10) -> str:
        """Returns a table of one example's logits and every correction of them, see `losses.explain`.

        Columns 0 to B - 1 are the positives of the B examples; the shared negatives and the example's own negatives
        follow.

        Args:
          model: the model.
          batch: one batch, with or without a leading axis of length 1.
          example: index of the example in the batch.
          top: number of columns to show, those with the highest scores.
        """
        if batch.real.ndim == 2:
            batch = jax.tree.map(lambda column: column[0], batch)
        queries, candidates, batch = embeddings(model, jax.tree.map(jnp.asarray, batch))
        columns = self.columns(queries, candidates, batch)
        names = "temperature", "scale_log_q", "num_hard_negatives", "label_smoothing"
        return losses.explain(**columns, example=example, top=top, **{name: getattr(self, name) for name in names})
