"""Points of a trade-off between the ranking and the error of each task."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from experiments.report.records import Records, metric_label
from experiments.shared.workdir import MODEL
from retrieval.config.schema import Config, Task
from retrieval.pipeline.search_and_fit import SEARCH

FIGURES = {"regression": "rmse", "binary": "log_loss"}  # the error of a task, by its kind
Interval = Sequence[float]


@dataclasses.dataclass(frozen=True)
class Point:
    """What one weight of the tasks comes to.

    Attributes:
      factor: of the weights in the config.
      epoch: whose parameters are kept.
      validation: the deciding metric and the error of each task on the validation part, by name.
      test: the same on test.
      intervals: 95 % intervals of those on test.
      on_front: the tasks that no other weight serves better without loss in the ranking, on the validation part.
    """

    factor: float
    epoch: int
    validation: Mapping[str, float]
    test: Mapping[str, float]
    intervals: Mapping[str, Interval]
    on_front: Sequence[str]


def figure_of(task: Task) -> str:
    """Returns the name of a task's error, as "rating/rmse"."""
    return f"{task.name}/{FIGURES[task.kind]}"


def figures_of(config: Config) -> dict[str, str]:
    """Returns the names of the deciding metric and of the errors of all tasks, and what readers call them."""
    errors = {figure_of(task): f"{metric_label(figure_of(task))} of {task.name}" for task in config.tasks}
    return {config.train.metric: metric_label(config.train.metric)} | errors


def points_of(config: Config, runs: Mapping[float, Records]) -> list[Point]:
    """Returns the points of finished runs, by the factor of their weights.

    Raises:
      ValueError: a run had no validation part, which alone may choose between weights.
    """
    names = list(figures_of(config))
    validation = {factor: _at_choice(records, names) for factor, records in runs.items()}
    return [
        Point(
            factor,
            records.choice[1],
            validation[factor],
            {name: records.figures[f"{MODEL}/{name}"] for name in names},
            {name: records.intervals[f"{MODEL}/{name}"] for name in names},
            [task.name for task in config.tasks if _is_on_front(factor, validation, names[0], figure_of(task))],
        )
        for factor, records in runs.items()
    ]


def _at_choice(records: Records, names: Sequence[str]) -> dict[str, float]:
    """Returns figures on the validation part, at the epoch that is kept."""
    for record in records.phase(SEARCH):
        if record["epoch"] == records.choice[1] and all(f"validation/{name}" in record for name in names):
            return {name: record[f"validation/{name}"] for name in names}
    raise ValueError("weights are compared on a validation part; set data.split.validation_fraction")


def _is_on_front(factor: float, figures: Mapping[float, Mapping[str, float]], metric: str, error: str) -> bool:
    """Tells whether no other factor has a metric as high and an error as low, and one of them better."""
    own = figures[factor][metric], -figures[factor][error]
    others = [(of[metric], -of[error]) for of in figures.values()]
    return not any(other != own and all(a >= b for a, b in zip(other, own, strict=True)) for other in others)
