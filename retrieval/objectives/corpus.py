"""Objectives that compare each query with the whole corpus in every step."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from retrieval import losses
from retrieval.batching.batch import NO_ROW, Batch, Distinct, Drawn
from retrieval.data.encoding import Examples
from retrieval.data.out_of_core.mapped import windows
from retrieval.data.vocabulary import UNKNOWN_ROW
from retrieval.losses.row_sets import RowSets
from retrieval.models.binding import Lookups
from retrieval.models.two_tower import TwoTower
from retrieval.objectives.base import Objective, TrainingRows, known_in, lookups, static


@dataclasses.dataclass(frozen=True)
class OverCorpus(Objective):
    """An objective whose candidates are all rows of the vocabulary, each once, without the unknown row.

    The candidate tower is computed, and its tables are updated, for all N rows in every step. The negatives of a batch
    have no effect.

    Attributes:
      num_candidate_rows: rows of the candidate vocabulary, the unknown one included: N + 1.
    """

    over_corpus = True

    num_candidate_rows: int = static()

    @classmethod
    def create(cls, rows: TrainingRows, **options: Any) -> Objective:
        """Creates the objective for a training part, see `Objective.create`."""
        return super().create(rows, num_candidate_rows=rows.num_candidate_rows, **options)

    def batch_of(self, batch: Batch) -> Batch:
        """Returns the batch with all rows of the vocabulary as candidates, so that indices are rows, without negatives.

        A row beyond the vocabulary, of a held-out candidate, counts as the unknown row.
        """
        rows = batch.candidates.rows[batch.candidates.indices]
        rows = jnp.where(rows < self.num_candidate_rows, rows, UNKNOWN_ROW)
        # shapes stay static: the draws are cut to length 0, not dropped
        corpus = jnp.arange(self.num_candidate_rows, dtype=rows.dtype)
        shared, own, num_disliked = batch.negatives
        return batch._replace(
            candidates=Distinct(corpus, rows),
            negatives=Drawn(shared[:0], own[:, :0], num_disliked),
            probabilities=jnp.full(len(corpus), 1 / max(1, len(corpus) - 1)),
        )

    def lookups(self, model: TwoTower, batch: Batch) -> Lookups:
        """Returns the look-ups of the query tower; all rows of the candidate tower's tables are looked up."""
        return {table: rows for table, rows in lookups(model, batch).items() if table.startswith("query_tower/")}

    def counts(self, batch: Batch) -> Float[Array, "V"]:
        """Returns the number of occurrences of each row in the corpus: 1, and 0 for the unknown row."""
        return jnp.ones(len(batch.candidates.rows)).at[UNKNOWN_ROW].set(0.0)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FullSoftmax(OverCorpus):
    """Softmax cross-entropy of each query's positive over the whole corpus: the loss that sampled softmaxes estimate.

    It needs no logQ correction, and has no accidental hits. O(U N D) time a step for U distinct queries, one for each
    example if the query tower reads its context; memory as of `losses.folded_softmax`.

    Attributes:
      known_positives: candidate rows of each query row's positives in the training part; None: a query's other
        positives are negatives of it.
      temperature: divides the scores.
      label_smoothing: share of the target that is spread over the corpus, without the known positives.
    """

    name = "full_softmax"
    options = ("temperature", "remove_known_positives")
    scores_are_log_probabilities = True

    known_positives: RowSets | None = None
    temperature: float = static(default=1.0)
    label_smoothing: float = static(default=0.0)

    def terms(self, queries: Float[Array, "U D"], candidates: Float[Array, "V D"], batch: Batch) -> Float[Array, "B"]:
        """Returns the cross-entropy of each example's positive."""
        return losses.folded_softmax(
            queries,
            candidates,
            batch.queries.indices,
            batch.candidates.indices,
            self.counts(batch),
            temperature=self.temperature,
            known_positives=known_in(batch, self.known_positives),
            label_smoothing=self.label_smoothing,
            reduction="none",
        )

    def trivial_scores(self, log_prior: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
        """Returns the scores whose softmax is the popularity: the loss is then about its entropy."""
        return self.temperature * log_prior


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ImplicitSquared(OverCorpus):
    """The squared loss of iALS for any towers, see `losses.implicit_squared`.

    With the reduction "sum" and fixed parameters, the losses of an epoch add up to

        sum over examples of w (s - 1)^2 + unobserved_weight * sum over queries and the corpus of s^2

    since the second sum of a query is divided among its examples by their weights. `embedding_l2` is the penalty of
    iALS with frequency-scaled regularisation of exponent 1. Scores are no log-probabilities: use the loss without a
    popularity prior. O(B D + (U + N) D^2) time a step.

    Attributes:
      query_weights: sum of the weights of each query row's examples in the training part [num_query_rows], see
        `query_weights`. For a row with the sum 0, each example counts the whole second sum.
      unobserved_weight: weight of a pair that is not observed; an observed pair has this weight plus 1.
    """

    name = "implicit_squared"
    options = ("unobserved_weight",)

    query_weights: Float[Array, "num_query_rows"]
    unobserved_weight: float = static()

    @classmethod
    def create(cls, rows: TrainingRows, **options: Any) -> Objective:
        """Creates the objective for a training part, see `Objective.create`."""
        return super().create(rows, query_weights=query_weights(rows.examples, rows.num_query_rows), **options)

    def terms(self, queries: Float[Array, "U D"], candidates: Float[Array, "V D"], batch: Batch) -> Float[Array, "B"]:
        """Returns the squared loss of each example, with its share of the query's sum over the corpus."""
        weights = self.query_weights[batch.queries.rows]
        return losses.implicit_squared(
            queries,
            candidates,
            batch.queries.indices,
            batch.candidates.indices,
            self.counts(batch),
            1 / jnp.where(weights > 0, weights, 1.0),  # f_q; 1 for a query without examples in the training part
            unobserved_weight=self.unobserved_weight,
            reduction="none",
        )


def query_weights(examples: Examples, num_query_rows: int) -> Float[Array, "num_query_rows"]:
    """Returns the sum of the weights of each query row's examples, for windows of their targets; O(n) time.

    >>> rows = np.array([1, 2, 1], np.int32)
    >>> query_weights(Examples(rows, rows, np.array([1.0, 0.5, 2.0], np.float32)), 4).tolist()
    [0.0, 3.0, 0.5, 0.0]
    """
    sums = np.zeros(num_query_rows)
    for rows, candidates, weights in zip(*map(windows, examples[:3]), strict=True):
        example_weights = np.where(candidates == NO_ROW, 0, weights).reshape(len(rows), -1).sum(axis=1)
        sums += np.bincount(rows, example_weights, num_query_rows)
    return jnp.asarray(sums, jnp.float32)
