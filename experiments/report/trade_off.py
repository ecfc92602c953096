"""The trade-off between the ranking and the error of each task, by the weight of the tasks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from retrieval.config.schema import Config, Task
from retrieval.pipeline.trained import SEARCH

from ..shared.labels import MODEL, metric_label
from .records import Interval, Records

ERRORS = {"regression": "rmse", "binary": "log_loss"}  # by the kind of the task


@dataclasses.dataclass(frozen=True)
class WeightResult:
    """Metrics of a run whose tasks have their weights times a factor.

    Attributes:
      factor: multiplies the weights in the config.
      epoch: its parameters are kept.
      validation: the deciding metric and the error of each task on the validation part, by name.
      test: the same metrics on the test part.
      intervals: 95 % intervals of `test`.
      on_front: the tasks on whose Pareto front this weight is, on the validation part.
    """

    factor: float
    epoch: int
    validation: Mapping[str, float]
    test: Mapping[str, float]
    intervals: Mapping[str, Interval]
    on_front: Sequence[str]


def error_name(task: Task) -> str:
    """Returns the name of a task's error, as "rating/rmse"."""
    return f"{task.name}/{ERRORS[task.kind]}"


def metric_titles(config: Config) -> dict[str, str]:
    """Returns the titles of the deciding metric and of the error of each task, by name."""
    errors = {error_name(task): f"{metric_label(error_name(task))} of {task.name}" for task in config.tasks}
    return {config.train.metric: metric_label(config.train.metric)} | errors


def weight_results(config: Config, runs: Mapping[float, Records]) -> list[WeightResult]:
    """Returns the results of finished runs, given by the factor of their weights.

    Raises:
      ValueError: a run has no validation part, and the test part must not choose between weights.
    """
    names = list(metric_titles(config))
    validation = {factor: _at_choice(records, names) for factor, records in runs.items()}
    return [
        WeightResult(
            factor,
            records.choice[1],
            validation[factor],
            {name: records.metrics[f"{MODEL}/{name}"] for name in names},
            {name: records.intervals[f"{MODEL}/{name}"] for name in names},
            [task.name for task in config.tasks if _is_on_front(factor, validation, names[0], error_name(task))],
        )
        for factor, records in runs.items()
    ]


def _at_choice(records: Records, names: Sequence[str]) -> dict[str, float]:
    """Returns metrics on the validation part, at the epoch that is kept."""
    for record in records.phase(SEARCH):
        if record["epoch"] == records.choice[1] and all(f"validation/{name}" in record for name in names):
            return {name: record[f"validation/{name}"] for name in names}
    raise ValueError("weights are compared on a validation part; set data.split.validation_fraction")


def _is_on_front(factor: float, results: Mapping[float, Mapping[str, float]], metric: str, error: str) -> bool:
    """Tells whether no other factor has a metric as high and an error as low, and one of them better."""
    own = results[factor][metric], -results[factor][error]
    others = [(result[metric], -result[error]) for result in results.values()]
    return not any(other != own and all(a >= b for a, b in zip(other, own, strict=True)) for other in others)
