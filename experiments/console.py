"""What the programs show: progress on a terminal, plain lines elsewhere, and tables."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import rich.console
import rich.progress
import rich.table

from experiments.benchmarks.measure import Figure

CONSOLE = rich.console.Console(highlight=False, soft_wrap=True)
ROWS = (
    ("precision@10", "{}/excluding_seen/precision_at_10"),
    ("recall@10", "{}/excluding_seen/recall_at_10"),
    ("nDCG@10", "{}/excluding_seen/ndcg_at_10"),
    ("precision@10, seen included", "{}/including_seen/precision_at_10"),
    ("recall@10, seen included", "{}/including_seen/recall_at_10"),
)


def say(text: str) -> None:
    """Prints a line."""
    CONSOLE.print(text, markup=False)


@contextlib.contextmanager
def fetching() -> Iterator[Callable[[int, int], None] | None]:
    """Yields a callback (bytes done, bytes in all) that moves a bar; None where there is no terminal."""
    if not CONSOLE.is_terminal:
        yield None
        return
    columns = (
        rich.progress.TextColumn("fetching data"),
        rich.progress.BarColumn(),
        rich.progress.DownloadColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(*columns, console=CONSOLE, transient=True) as bars:
        task = bars.add_task("")
        yield lambda done, total: bars.update(task, completed=done, total=total)


@contextlib.contextmanager
def training(epochs: int, metric: str) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    """Yields a callback for the history of a phase: a bar on a terminal, a line per epoch elsewhere."""
    if not CONSOLE.is_terminal:
        yield lambda history: say(_line(history[-1], metric))
        return
    columns = (
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
    )
    with rich.progress.Progress(*columns, console=CONSOLE) as bars:
        tasks: dict[str, rich.progress.TaskID] = {}

        def show(history: list[dict[str, Any]]) -> None:
            last = history[-1]
            if last["phase"] not in tasks:
                tasks[last["phase"]] = bars.add_task("", total=epochs)
            bars.update(tasks[last["phase"]], description=_line(last, metric), completed=last["epoch"])

        yield show


def _line(record: Mapping[str, Any], metric: str) -> str:
    parts = [f"{record['phase']:>6} epoch {record['epoch']:>3}"]
    if "loss" in record:
        parts.append(f"loss {record['loss']:.4f}")
    if f"validation/{metric}" in record:
        parts.append(f"validation {metric.split('/')[-1]} {record[f'validation/{metric}']:.4f}")
    return "  ".join(parts)


def print_metrics(metrics: Mapping[str, float]) -> None:
    """Prints the test figures of the model beside those of the most-popular baseline."""
    table = rich.table.Table(title="Test part, full corpus")
    for name, justify in (("metric", "left"), ("model", "right"), ("most popular", "right")):
        table.add_column(name, justify=justify)
    accuracies = [name for name in metrics if name.startswith("test/factorized_top_k/")]
    rows = [(title, pattern) for title, pattern in ROWS if pattern.format("test") in metrics]
    rows += [(name.split("/")[-1].replace("_", " "), name.replace("test/", "{}/")) for name in accuracies]
    for title, pattern in rows:
        table.add_row(title, *(_figure(metrics.get(pattern.format(who))) for who in ("test", "popularity")))
    CONSOLE.print(table)


def print_summary(summary: Mapping[str, Mapping[str, float]], seeds: int) -> None:
    """Prints mean and standard deviation over seeds of the test figures."""
    table = rich.table.Table(title=f"{seeds} seeds")
    for name, justify in (("figure", "left"), ("mean", "right"), ("sd", "right")):
        table.add_column(name, justify=justify)
    for name, values in summary.items():
        if name.startswith(("test/", "popularity/")):
            table.add_row(name, _figure(values["mean"]), _figure(values["sd"]))
    CONSOLE.print(table)


def print_figures(figures: Sequence[Figure]) -> None:
    """Prints measured figures beside their references."""
    table = rich.table.Table()
    columns = ("name", "value", "reference", "unit", "ratio", "to reach")
    for name in columns:
        justify = "right" if name in ("value", "reference", "ratio") else "left"
        table.add_column(name, justify=justify, overflow="fold")
    for figure in figures:
        numbers = [f"{number:.4g}" for number in (figure.value, figure.reference)]
        table.add_row(figure.name, *numbers, figure.unit, f"{figure.ratio:.2f}", figure.reach)
    CONSOLE.print(table)


def print_recommendations(user: str, watched: Sequence[str], recommended: Sequence[str]) -> None:
    """Prints what a query has in train beside what is recommended to it."""
    table = rich.table.Table(title=f"Query {user}")
    table.add_column("in train, latest first")
    table.add_column("recommended")
    for i in range(max(len(watched), len(recommended))):
        table.add_row(*(rich.text.Text(titles[i] if i < len(titles) else "") for titles in (watched, recommended)))
    CONSOLE.print(table)


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
