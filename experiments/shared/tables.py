"""The tables that the programs of a run print: metrics, slices and recommendations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from retrieval.config.schema import Config, Task
from retrieval.evaluation.registry import metrics_of
from retrieval.ranking.ranking import COLD, EXCLUDING_SEEN, INCLUDING_SEEN

from . import console
from .labels import (
    MODEL,
    POPULARITY,
    PROTOCOLS,
    TASK_METRICS,
    TOWERS,
    best_of,
    metric_label,
    model_title,
    slice_label,
    system_label,
)
from .workdir import Workdir, training_seconds

MAIN = ("precision", "recall", "ndcg")
RANKING = ("hit_rate", "mrr", "map")
LISTS = tuple(metric.name for metric in metrics_of("list"))
SHOWN_SLICES = (  # a screen of them; `slices.json` and the report have all
    *(("queries", column) for column in ("activity", "vocabulary")),
    *(("candidates", column) for column in ("popularity", "vocabulary")),
)
PREFERRED_K = 10


class Measured(NamedTuple):
    """Metrics of a run, and their 95 % intervals, by name; `model` is the title of the trained model."""

    metrics: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    model: str

    def cell(self, name: str) -> str:
        """Returns a metric with its interval as text; "" where it is missing or not defined."""
        value, (low, high) = self.metrics.get(name, math.nan), self.intervals.get(name, (math.nan, math.nan))
        if math.isnan(value):
            return ""
        return f"{value:.4f}" if math.isnan(low) else f"{value:.4f} [{low:.4f}, {high:.4f}]"

    def title(self, system: str) -> str:
        """Returns the name of a system as readers know it."""
        return system_label(system, self.model)


def print_metrics(workdir: Workdir) -> None:
    """Prints the test metrics of the model and of the baselines so far, with their intervals, and the main slices."""
    config = workdir.read_config()
    measured = Measured(workdir.read_metrics(), workdir.read_intervals(), model_title(config))
    protocol, k = shown_protocol(measured.metrics), shown_k(config, measured.metrics)
    if k is None:
        return
    _print_systems(measured, protocol, k)
    if any(f"/{COLD}/" in name for name in measured.metrics):
        _print_systems(measured, COLD, k)
    _print_other(measured, protocol, k)
    for task in config.tasks:
        _print_predictions(measured, task)
    _print_slices(workdir, measured, protocol, k)


def shown_protocol(metrics: Mapping[str, float]) -> str:
    """Returns the protocol of the tables: the items of train excluded, where metrics of it are there."""
    return EXCLUDING_SEEN if any(f"/{EXCLUDING_SEEN}/" in name for name in metrics) else INCLUDING_SEEN


def shown_k(config: Config, metrics: Mapping[str, float]) -> int | None:
    """Returns the length of the lists in tables: that of `train.metric`, or 10; None where no list was measured."""
    protocol = shown_protocol(metrics)
    ks = sorted({int(name.rpartition("_")[2]) for name in metrics if f"/{protocol}/ndcg_at_" in name})
    deciding = config.train.metric.rpartition("_at_")[2]
    return next((k for k in ks if str(k) == deciding), PREFERRED_K if PREFERRED_K in ks else next(iter(ks), None))


def _print_systems(measured: Measured, protocol: str, k: int) -> None:
    """Prints the main metrics of every system: the model first, the others by nDCG."""
    metrics, ranked_by = measured.metrics, f"{protocol}/ndcg_at_{k}"
    systems = [name.removesuffix(f"/{ranked_by}") for name in metrics if name.endswith(f"/{ranked_by}")]
    systems = [system for system in systems if system != "train"]
    systems.sort(key=lambda system: (system != MODEL, system != TOWERS, -metrics[f"{system}/{ranked_by}"]))
    names = [f"{protocol}/{metric}_at_{k}" for metric in MAIN]
    rows = [
        [
            measured.title(system),
            *(measured.cell(f"{system}/{name}") for name in names),
            "" if (seconds := training_seconds(metrics, system)) is None else f"{seconds:.1f}",
        ]
        for system in systems
    ]
    columns = ({system: metrics.get(f"{system}/{name}", math.nan) for system in systems} for name in names)
    best = {(systems.index(system), j) for j, column in enumerate(columns, 1) for system in best_of(column)}
    title = f"Test part, full corpus, {PROTOCOLS[protocol]}; in brackets 95 % intervals over users, where one holds; "
    title += "* best, or as good"
    header = ["system", *map(metric_label, names), "training, s"]
    console.show_table(title, header, rows, best)


def _print_other(measured: Measured, protocol: str, k: int) -> None:
    """Prints more metrics of the model beside those of the most popular items."""
    names = [f"{protocol}/{metric}_at_{k}" for metric in RANKING] + [f"{protocol}/auc", f"{protocol}/mean_rank"]
    names += [f"{protocol}/{metric}_at_{k}" for metric in LISTS]
    if protocol == "excluding_seen":
        names += [f"including_seen/{metric}_at_{k}" for metric in MAIN]
    accuracies = [name for name in measured.metrics if name.startswith(f"{MODEL}/factorized_top_k/")]
    names += [name.removeprefix(f"{MODEL}/") for name in accuracies[-1:]]  # at the largest k
    rows = [
        [_label(name, protocol), *(measured.cell(f"{system}/{name}") for system in (MODEL, POPULARITY))]
        for name in names
        if f"{MODEL}/{name}" in measured.metrics
    ]
    console.show_table("More metrics", ["metric", measured.title(MODEL), measured.title(POPULARITY)], rows)


def _label(name: str, protocol: str) -> str:
    """Returns the label of a metric, with the protocol where it is another than `protocol`."""
    group = name.partition("/")[0]
    return metric_label(name) + (f", {PROTOCOLS[group]}" if group in PROTOCOLS and group != protocol else "")


def _print_predictions(measured: Measured, task: Task) -> None:
    """Prints the errors of the predictions of a task: by the model first."""
    names = [f"{task.name}/{metric}" for metric in TASK_METRICS[task.kind]]
    systems = [name.removesuffix(f"/{names[0]}") for name in measured.metrics if name.endswith(f"/{names[0]}")]
    systems = sorted((s for s in systems if not s.startswith("train")), key=lambda system: system != MODEL)
    rows = [[measured.title(s), *(measured.cell(f"{s}/{name}") for name in names)] for s in systems]
    console.show_table(f"Test part, {task.name}", ["prediction by", *map(metric_label, names)], rows)


def _print_slices(workdir: Workdir, measured: Measured, protocol: str, k: int) -> None:
    names = [f"{protocol}/{metric}_at_{k}" for metric in ("recall", "ndcg")]
    rows = []
    for record in workdir.read_slices():
        is_shown = record["system"] == MODEL and (record["of"], record["column"]) in SHOWN_SLICES
        if is_shown and record["num_queries"]:
            own = Measured(record["figures"], record["intervals"], measured.model)
            label = slice_label(record["of"], record["column"], str(record["value"]))
            rows.append([label, str(record["num_queries"]), str(record["num_relevant"]), *map(own.cell, names)])
    header = ["slice of the test part", "users", "interactions", *map(metric_label, names)]
    console.show_table(f"Slices, {measured.title(MODEL)}", header, rows)


def print_recommendations(user: str, seen: Sequence[str], recommended: Sequence[str], has_times: bool) -> None:
    """Prints the titles that a user has in train, the latest first where times are known, beside the recommended."""
    length = max(len(seen), len(recommended))
    columns = ([*titles, *[""] * (length - len(titles))] for titles in (seen, recommended))
    rows = [[str(i), *titles] for i, titles in enumerate(zip(*columns, strict=True), 1)]
    console.show_table(
        f"User {user}",
        ["", f"in train, {'latest first' if has_times else 'in the order of the data'}", "recommended"],
        rows,
    )
