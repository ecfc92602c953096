"""Labels of interactions for the heads of a model, and their statistics in train.

Heads are trained and evaluated on the interactions that are examples. Dislikes are not examples. If a head has to learn
low ratings too, keep the data without dislikes and give low ratings a small weight in retrieval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32

from retrieval.common.choices import check_choice
from retrieval.common.errors import DataError
from retrieval.config.schema import Task

REGRESSION, BINARY = "regression", "binary"
KINDS = (REGRESSION, BINARY)
Labels = dict[str, Float32[np.ndarray, "..."]]  # labels by the name of the task; NaN if unknown


class Statistics(NamedTuple):
    """Statistics of a task's known labels in train.

    Attributes:
      mean: mean of the labels; for a binary task, the base rate of the event.
      variance: variance of the labels.
    """

    mean: float
    variance: float


def check_tasks(tasks: Sequence[Task]) -> None:
    """Checks that the tasks of a config can be built.

    Raises:
      ValueError: a name is empty, has a "/" or is not unique, a kind is unknown, or a weight is negative.
    """
    for i, task in enumerate(tasks):
        if not task.name or "/" in task.name or task.name in {other.name for other in tasks[:i]}:
            raise ValueError(f"tasks[{i}].name must be a unique name without '/', got {task.name!r}")
        check_choice(f"tasks[{i}].kind", task.kind, KINDS)
        if not 0 <= task.weight < math.inf:
            raise ValueError(f"tasks[{i}].weight must be 0 or more, got {task.weight}")


def labels_of(tasks: Sequence[Task], ratings: Float32[np.ndarray, "*S"] | None) -> Labels:
    """Returns the labels of each task, in the shape of the ratings; NaN where the rating is NaN.

    >>> ratings = np.array([1.0, 4.0, np.nan], np.float32)
    >>> labels_of([Task("stars"), Task("likes", "binary", threshold=4.0)], ratings)
    {'stars': array([ 1.,  4., nan], dtype=float32), 'likes': array([ 0.,  1., nan], dtype=float32)}

    Raises:
      ValueError: there are tasks but no ratings.
    """
    if tasks and ratings is None:
        raise DataError(f"task {tasks[0].name!r} predicts the rating, and the interactions have none", needed="ratings")
    return {task.name: _labels(task, ratings) for task in tasks}


def _labels(task: Task, ratings: Float32[np.ndarray, "*S"]) -> Float32[np.ndarray, "*S"]:
    if task.kind == REGRESSION:
        return ratings
    return np.where(np.isnan(ratings), np.float32(np.nan), (ratings >= task.threshold).astype(np.float32))


def statistics(name: str, labels: Float32[np.ndarray, "n"]) -> Statistics:
    """Computes mean and variance of the known labels, in float64.

    >>> statistics("stars", np.array([1.0, 3.0, np.nan], np.float32))
    Statistics(mean=2.0, variance=1.0)

    Raises:
      ValueError: no label is known, or all known labels are equal.
    """
    known = labels[~np.isnan(labels)].astype(np.float64)
    if not len(known) or known.min() == known.max():
        received = f"all {len(known)} of them are {known[0]:g}" if len(known) else "none is known"
        raise ValueError(f"task {name!r} has nothing to learn from the labels in train: {received}")
    return Statistics(float(known.mean()), float(known.var()))


def trivial_loss(kind: str, label_statistics: Statistics) -> float:
    """Computes the mean loss of the best constant prediction: the variance, or the entropy of the base rate in nats.

    >>> trivial_loss("regression", Statistics(3.5, 1.25)), round(trivial_loss("binary", Statistics(0.5, 0.25)), 4)
    (1.25, 0.6931)
    """
    mean, variance = label_statistics
    return variance if kind == REGRESSION else -mean * math.log(mean) - (1 - mean) * math.log(1 - mean)


def log_odds(label_statistics: Statistics) -> float:
    """Computes the log-odds of the base rate.

    >>> log_odds(Statistics(0.5, 0.25))
    0.0
    """
    return math.log(label_statistics.mean / (1 - label_statistics.mean))
