"""What all objectives share: embeddings of a batch, the penalty on them, and the sum over the examples."""

from __future__ import annotations

import abc
import dataclasses
import functools
from typing import Any, ClassVar, NamedTuple

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

static = functools.partial(dataclasses.field, metadata={"static": True})  # a constant of the compiled step, no argument


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
    """A loss of each example, with a penalty on its embeddings, summed over the batch.

    An objective is a pytree, so that arrays in it are arguments of the compiled step. It is called with a model and a
    batch, and returns the value to minimise, and sums over the batch to log, "examples" the one that divides them.

    A subclass carries what others need to know of a loss, so that nothing else lists the losses but `OBJECTIVES`.

    Class attributes:
      name: the loss in a config and in reports.
      options: keyword arguments of `create` that belong to the loss, in the names of the config's `loss` section.
      scores_are_log_probabilities: the softmaxes, whose scores may start at the popularity of the candidates.
      scores_are_cosines: the scores ignore the norms of the embeddings; towers must normalise their outputs.
      over_corpus: each query is compared with all candidates, so that negatives drawn for a batch have no effect.
      reads_dislikes: negatives drawn from what a query disliked have an effect.

    Attributes:
      embedding_l2: penalty an example on the squared norms of its query's and its candidate's embedding.
      reduction: "sum" or "mean" over the batch.
      candidate_l2_scale: factor of the penalty on the candidate of each row [num_candidate_rows]; None: 1.
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
        """Returns the value to minimise, and the sums of losses and weights over the batch."""
        return self.of_embeddings(model, *embeddings(model, self.batch_of(batch)))

    def of_embeddings(
        self, model: TwoTower, queries: Float[Array, "U D"], candidates: Float[Array, "V D"], batch: Batch
    ) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
        """Returns what a call does, from what `embeddings` returns of the batch."""
        terms = self.terms(queries, candidates, batch)
        norms = model.squared_norms(queries)[batch.queries.indices]
        of_candidates = model.squared_norms(candidates)
        if self.candidate_l2_scale is not None:
            of_candidates *= self.candidate_l2_scale[batch.candidates.rows]
        norms += of_candidates[batch.candidates.indices]
        value = losses.reduce(terms + self.embedding_l2 * norms, batch.weights, self.reduction)
        return value, {"loss": jnp.sum(batch.weights * terms), "examples": jnp.sum(batch.weights)}

    @abc.abstractmethod
    def terms(self, queries: Float[Array, "U D"], candidates: Float[Array, "V D"], batch: Batch) -> Float[Array, "B"]:
        """Returns the unweighted loss of each example, from the embeddings that its indices in the batch refer to."""

    @abc.abstractmethod
    def trivial_loss(self, counts: Float[np.ndarray, "N"]) -> float:
        """Returns about the loss of an example where no score depends on the query: what there is to improve on.

        Args:
          counts: how often each candidate row occurs in train.
        """

    def batch_of(self, batch: Batch) -> Batch:
        """Returns the batch with the candidates that the objective compares with: here its own."""
        return batch

    def lookups(self, model: TwoTower, batch: Batch) -> Lookups:
        """Returns which rows of which tables the objective looks up, see `TwoTower.lookups`; others need no update."""
        return lookups(model, batch)


def embeddings(model: TwoTower, batch: Batch) -> tuple[Float[Array, "U D"], Float[Array, "V D"], Batch]:
    """Returns the embeddings of the batch's distinct queries and candidates, and the batch as it stands for them.

    Queries that are read in the contexts of their examples are not alike: there is one for each example then, as there
    is of windows for each target. In the batch returned, `queries.rows` and `candidates.rows` are the rows that the
    embeddings belong to, one each.
    """
    (rows, indices), candidates = batch.queries, model.candidate(batch.candidates.rows)
    if model.reads_windows:
        queries = model.query_at(indices, rows, batch.context)
        positions = next(iter(batch.context.values())).shape[1]
        batch = batch._replace(queries=Distinct(rows[indices // positions], jnp.arange(len(indices))))
        return queries, candidates, batch
    if model.context:
        batch = batch._replace(queries=Distinct(rows[indices], jnp.arange(len(indices))))
    return model.query(batch.queries.rows, batch.context), candidates, batch


def lookups(model: TwoTower, batch: Batch) -> Lookups:
    """Returns which rows of which tables `embeddings` looks up, as far as the model tells; see `TwoTower.lookups`."""
    if not hasattr(model, "lookups"):
        return {}
    return model.lookups(batch.queries.rows, batch.candidates.rows)


def counts(batch: Batch, *, positives: bool) -> Float[Array, "V"]:
    """Returns how many columns of the batch hold each distinct candidate; 0 for one that is nobody's or padding.

    Columns are the negatives that all examples share, and with `positives` those of the examples.
    """
    size = len(batch.candidates.rows)
    shared = batch.negatives.shared
    found = jnp.zeros(size)
    if positives:
        found = found.at[batch.candidates.indices].add(batch.real.astype(jnp.float32))
    return found.at[jnp.where(shared < 0, size, shared)].add(1.0, mode="drop")


def known_in(batch: Batch, positives: RowSets | None) -> KnownPositives | None:
    """Returns which of the batch's distinct candidates are known positives of which of its distinct queries."""
    return None if positives is None else KnownPositives(positives.take(batch.queries.rows), batch.candidates.rows)
