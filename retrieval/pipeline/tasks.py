"""Makes the tasks of a config into heads and their losses, with statistics of the labels in train."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float32

from retrieval.batching.assembly import batches, epoch_order
from retrieval.batching.batch import Batch
from retrieval.batching.negatives import Negatives
from retrieval.batching.sampler import Sampler
from retrieval.config.schema import Task
from retrieval.data.encoding import Examples
from retrieval.data.labels import BINARY, Labels, Statistics, check_tasks, labels_of, log_odds, statistics, trivial_loss
from retrieval.data.popularity import log_prior
from retrieval.models.heads import Head
from retrieval.objectives import HeadLoss, MultiTask, Objective, scale_of

TRIVIAL_EXAMPLES = 2**16  # interactions on which the loss of scores by popularity is computed


@dataclasses.dataclass(frozen=True)
class Tasks:
    """The tasks of an experiment.

    Attributes:
      entries: the entries of the config.
      statistics: mean and variance of each task's labels in train.
    """

    entries: Sequence[Task] = ()
    statistics: Sequence[Statistics] = ()

    @classmethod
    def fit(cls, entries: Sequence[Task], ratings: Float32[np.ndarray, "n"] | None) -> Tasks:
        """Computes the statistics of the labels that the ratings of train give.

        Raises:
          ValueError: an entry is wrong, there are no ratings, or all labels of a task are the same.
        """
        check_tasks(entries)
        labels = labels_of(entries, ratings)
        return cls(entries, [statistics(task.name, labels[task.name]) for task in entries])

    def labels(self, ratings: Float32[np.ndarray, "*S"] | None) -> Labels:
        """Returns the labels of interactions by task, in the shape of the ratings; see `labels.labels_of`."""
        return labels_of(self.entries, ratings)

    def heads(self, dimension: int, seed: int) -> dict[str, Head]:
        """Returns a head for each task, by name.

        The key of their initial values is folded, so that they differ from those of towers with the same seed.
        """
        rngs = nnx.Rngs(jax.random.fold_in(jax.random.key(seed), 1))
        return {
            task.name: Head(
                dimension,
                task.hidden_sizes,
                start=log_odds(labels) if task.kind == BINARY else labels.mean,
                deviation=1.0 if task.kind == BINARY else labels.variance**0.5,
                is_binary=task.kind == BINARY,
                rngs=rngs,
            )
            for task, labels in zip(self.entries, self.statistics, strict=True)
        }

    def objective(
        self, retrieval: Objective, pairs: Examples, negatives: Negatives, batch_size: int
    ) -> Objective | MultiTask:
        """Returns the objective of retrieval with the losses of the heads added; without tasks, itself.

        Each head's loss is scaled: its best constant prediction costs as much as scores that ignore the query cost in
        retrieval, so that weights of tasks do not depend on the units of their labels; see `objectives.scale_of`.

        Args:
          retrieval: the objective that trains the towers to retrieve.
          pairs: one example for each interaction of train.
          negatives: the negatives of a batch beside its own positives.
          batch_size: interactions a step.
        """
        if not self.entries:
            return retrieval
        trivial = retrieval.trivial_loss(_first_batches(pairs, negatives, batch_size), log_prior(negatives.counts))
        losses = (
            HeadLoss(task.name, task.weight, scale_of(trivial, trivial_loss(task.kind, labels)))
            for task, labels in zip(self.entries, self.statistics, strict=True)
        )
        return MultiTask(retrieval, tuple(losses))


def _first_batches(pairs: Examples, negatives: Negatives, batch_size: int) -> Batch:
    """Returns whole batches of about `TRIVIAL_EXAMPLES` interactions in random order."""
    size = min(batch_size, len(pairs.query_rows))
    number = max(1, min(TRIVIAL_EXAMPLES, len(pairs.query_rows)) // size)
    order = epoch_order(len(pairs.query_rows), seed=0, epoch=0)[: number * size]
    return batches(pairs, order, size, sampler=Sampler(negatives))


NO_TASKS = Tasks()
