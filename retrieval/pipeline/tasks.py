"""From the tasks of a config to heads and their losses, with what train tells of the labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np
from flax import nnx
from jaxtyping import Float, Float32

from retrieval.config.schema import Task
from retrieval.data.labels import BINARY, Labels, Statistics, check_tasks, labels_of, log_odds, statistics, trivial_loss
from retrieval.models.heads import Head
from retrieval.objectives import HeadLoss, MultiTask, Objective, scale_of


@dataclasses.dataclass(frozen=True)
class Tasks:
    """The tasks of an experiment.

    Attributes:
      settings: the section of the config.
      statistics: of the labels of each in train.
    """

    settings: Sequence[Task] = ()
    statistics: Sequence[Statistics] = ()

    @classmethod
    def fit(cls, settings: Sequence[Task], ratings: Float32[np.ndarray, "n"] | None) -> Tasks:
        """Takes the statistics of the labels in train.

        Raises:
          ValueError: a task cannot be built, or has nothing to learn there.
        """
        check_tasks(settings)
        labels = labels_of(settings, ratings)
        return cls(settings, [statistics(task.name, labels[task.name]) for task in settings])

    def labels(self, ratings: Float32[np.ndarray, "*S"] | None) -> Labels:
        """Returns the labels of interactions, see `labels.labels_of`."""
        return labels_of(self.settings, ratings)

    def heads(self, dimension: int, seed: int) -> dict[str, Head]:
        """Returns a head for each task, by name; towers with the same seed have initial values of their own."""
        rngs = nnx.Rngs(jax.random.fold_in(jax.random.key(seed), 1))
        return {
            task.name: Head(
                dimension,
                task.hidden_sizes,
                start=log_odds(of_task) if task.kind == BINARY else of_task.mean,
                deviation=1.0 if task.kind == BINARY else of_task.variance**0.5,
                is_binary=task.kind == BINARY,
                rngs=rngs,
            )
            for task, of_task in zip(self.settings, self.statistics, strict=True)
        }

    def objective(self, retrieval: Objective, counts: Float[np.ndarray, "N"]) -> Objective | MultiTask:
        """Returns the objective with the losses of the heads; itself where there are none.

        Args:
          retrieval: what trains the towers to retrieve.
          counts: how often each candidate row occurs in train.
        """
        if not self.settings:
            return retrieval
        trivial = retrieval.trivial_loss(counts)
        losses = (
            HeadLoss(task.name, task.weight, scale_of(trivial, trivial_loss(task.kind, of_task)))
            for task, of_task in zip(self.settings, self.statistics, strict=True)
        )
        return MultiTask(retrieval, tuple(losses))


NO_TASKS = Tasks()
