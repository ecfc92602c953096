"""The base class of objectives: embeddings of a batch, L2 of the embeddings, and the reduction over examples."""

from __future__ import annotations

import abc
import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from retrieval import losses
from retrieval.batching.batch import Batch, Distinct
from retrieval.common.lists import Lists
from retrieval.data.encoding import Examples
from retrieval.losses.row_sets import KnownPositives, RowSets
from retrieval.models.binding import Lookups
from retrieval.models.two_tower import TwoTower

static = functools.partial(
    dataclasses.field, metadata={"static": True}
)  # a constant of the compiled step, not an argument


class TrainingRows(NamedTuple):
    """The training part in rows, from which `Objective.create` takes what a loss needs to know of it.

    Attributes:
      pairs: one example for each interaction [n].
      examples: the examples that training reads: the pairs, or windows of histories.
      num_query_rows: rows of the query vocabulary, the unknown one included.
      num_candidate_rows: rows of the candidate vocabulary, the unknown one included.
    """

    pairs: Examples
    examples: Examples
    num_query_rows: int
    num_candidate_rows: int

    def known_positives(self) -> RowSets:
        """Returns the candidate rows of each query row's positives."""
        return RowSets.from_lists(
            Lists.from_pairs(self.pairs.query_rows, self.pairs.candidate_rows, self.num_query_rows)
        )


@dataclasses.dataclass(frozen=True)
class Objective(abc.ABC):
    """A loss of each example plus an L2 penalty on its embeddings, reduced over the batch.

    Called with a model and a batch, an objective returns the value to minimise, and sums over the batch to log, whose
    denominator is the sum "examples". It is a pytree, so that its arrays are arguments of the compiled step.

    The class attributes describe a loss to the config, the pipeline and reports, which therefore name no loss: a new
    loss is a subclass and an entry in `OBJECTIVES`.

    Class attributes:
      name: name of the loss in a config and in reports.
      options: keyword arguments of `create` that belong to the loss, in the names of the config's `loss` section.
      scores_are_log_probabilities: the softmaxes, whose scores may start at the popularity of the candidates.
      scores_are_cosines: the scores ignore the norms of the embeddings; towers must normalise their outputs.
      over_corpus: each query is compared with all candidates, so that negatives drawn for a batch have no effect.
      reads_dislikes: negatives drawn from what a query disliked have an effect.

    Attributes:
      embedding_l2: factor of the squared norms of the query's and the candidate's embedding, added to each example's
        loss.
      reduction: "sum" or "mean" over the batch.
      candidate_l2_scale: further factor of the penalty of each candidate row [num_candidate_rows]; None: 1.
    """

    name: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ()
    scores_are_log_probabilities: ClassVar[bool] = False
    scores_are_cosines: ClassVar[bool] = False
    over_corpus: ClassVar[bool] = False
    reads_dislikes: ClassVar[bool] = False

    embedding_l2: float = static(default=0.0, kw_only=True)
    reduction: str = static(default="sum", kw_only=True)
    candidate_l2_scale: Float[Array, "num_candidate_rows"] | None = dataclasses.field(default=None, kw_only=True)

    @classmethod
    def create(cls, rows: TrainingRows, *, remove_known_positives: bool = False, **options: Any) -> Objective:
        """Creates the objective for a training part.

        Args:
          rows: the training part.
          remove_known_positives: whether a query's other positives in the training part are no negatives of it; of
            losses that have the option.
          **options: the other options of the class, and the attributes that all objectives share.
        """
        if remove_known_positives:
            options["known_positives"] = rows.known_positives()
        return cls(**options)

    def __call__(self, model: TwoTower, batch: Batch) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Returns the value to minimise, and the sums of losses and of weights over the batch."""
        return self.from_embeddings(model, *embeddings(model, self.batch_of(batch)))

    def from_embeddings(
        self, model: TwoTower, queries: Float[Array, "U D"], candidates: Float[Array, "V D"], batch: Batch
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Returns the results of a call from the results of `embeddings`, which a caller may use for heads as well."""
        terms = self.terms(queries, candidates, batch)
        norms = model.squared_norms(queries)[batch.queries.indices]
        candidate_norms = model.squared_norms(candidates)
        if self.candidate_l2_scale is not None:
            candidate_norms *= self.candidate_l2_scale[batch.candidates.rows]
        norms += candidate_norms[batch.candidates.indices]
        # the penalty is a part of each example: it has the weight of the example, and grows with the count of a row
        value = losses.reduce(terms + self.embedding_l2 * norms, batch.weights, self.reduction)
        return value, {"loss": jnp.sum(batch.weights * terms), "examples": jnp.sum(batch.weights)}

    @abc.abstractmethod
    def terms(self, queries: Float[Array, "U D"], candidates: Float[Array, "V D"], batch: Batch) -> Float[Array, "B"]:
        """Returns the unweighted loss of each example, from the distinct embeddings and the indices of the batch."""

    def trivial_scores(self, log_prior: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
        """Returns scores that know nothing but the popularity of each candidate row; by default 0.

        Args:
          log_prior: log-probability of each candidate row in the training part, up to a constant.
        """
        return np.zeros_like(log_prior)

    def trivial_loss(self, batches: Batch, log_prior: Float[np.ndarray, "N"]) -> float:
        """Returns the mean loss of the `trivial_scores`, which are equal for all queries.

        It depends on the batches, as the loss does: an in-batch softmax grows with the number of columns.

        Args:
          batches: some batches of the training, stacked along a leading axis.
          log_prior: log-probability of each candidate row in the training part, up to a constant.
        """
        # embeddings of one dimension whose dot products are the scores
        scores = jnp.asarray(self.trivial_scores(log_prior), jnp.float32)[:, None]

        @jax.jit
        def sums(objective, scores, batches):
            def weighted(batch):
                batch = objective.batch_of(batch)
                queries = jnp.ones((len(batch.queries.rows), 1))
                terms = objective.terms(queries, scores[batch.candidates.rows], batch)
                return jnp.sum(batch.weights * terms), jnp.sum(batch.weights)

            return jax.lax.map(weighted, batches)

        losses, weights = sums(self, scores, batches)
        return float(jnp.sum(losses) / jnp.sum(weights))

    def batch_of(self, batch: Batch) -> Batch:
        """Returns the batch with the candidates that the objective compares with: by default its own."""
        return batch

    def lookups(self, model: TwoTower, batch: Batch) -> Lookups:
        """Returns the rows that the objective looks up, by the path of their table, see `TwoTower.lookups`."""
        return lookups(model, batch)


def embeddings(model: TwoTower, batch: Batch) -> tuple[Float[Array, "U D"], Float[Array, "V D"], Batch]:
    """Returns the embeddings of the batch's distinct queries and candidates, and the batch with indices into them.

    A query tower that reads the context of an example has one embedding for each example, and one that reads windows
    has one for each target: these queries do not fold. In the returned batch, `queries.rows` and `candidates.rows` are
    the rows of the embeddings [U] and [V].
    """
    (rows, indices), candidates = batch.queries, model.candidate(batch.candidates.rows)
    # in both branches the returned `indices` become 0 ... U - 1: query u is that of example u, and rows may repeat
    if model.reads_windows:
        queries = model.query_at(indices, rows, batch.context)
        positions = next(iter(batch.context.values())).shape[1]
        batch = batch._replace(queries=Distinct(rows[indices // positions], jnp.arange(len(indices))))
        return queries, candidates, batch
    if model.context:
        batch = batch._replace(queries=Distinct(rows[indices], jnp.arange(len(indices))))
    return model.query(batch.queries.rows, batch.context), candidates, batch


def lookups(model: TwoTower, batch: Batch) -> Lookups:
    """Returns the rows that `embeddings` looks up, by the path of their table; empty if the model has no `lookups`."""
    if not hasattr(model, "lookups"):
        return {}
    return model.lookups(batch.queries.rows, batch.candidates.rows)


def counts(batch: Batch, *, positives: bool) -> Float[Array, "V"]:
    """Returns the number of columns of the batch with each distinct candidate [V]; 0 for padding.

    Columns are the shared negatives and, if `positives` is True, the positives of the examples.
    """
    size = len(batch.candidates.rows)
    shared = batch.negatives.shared
    found = jnp.zeros(size)
    if positives:
        found = found.at[batch.candidates.indices].add(batch.real.astype(jnp.float32))
    # a negative index would count from the end: an absent negative becomes an index out of range, which is dropped
    return found.at[jnp.where(shared < 0, size, shared)].add(1.0, mode="drop")


def known_in(batch: Batch, positives: RowSets | None) -> KnownPositives | None:
    """Returns the known positives of the batch's distinct queries among its distinct candidates."""
    return None if positives is None else KnownPositives(positives.take(batch.queries.rows), batch.candidates.rows)
