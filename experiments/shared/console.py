"""Output of the programs: progress and tables on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import rich.console
import rich.progress
import rich.table
import rich.text

from .commands import as_started
from .labels import metric_label

CONSOLE = rich.console.Console(highlight=False, soft_wrap=True)
BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # reorder what follows
_hidden = {"progress": False, "tables": False}
_reached: list[str] = []  # what an interruption names: the last epoch that was trained


def be_quiet() -> None:
    """Turns progress off and tables into plain lines, from now on."""
    _hidden.update(progress=True, tables=True)


def visible(text: str) -> str:
    """Returns text in which characters that control a terminal, or the order of what it shows, are escaped.

    Titles and ids are from data, and may hold anything.

    >>> print(visible("Alien\x1b[2J"))
    Alien\x1b[2J
    """
    return "".join(_escaped(letter) if _is_control(letter) else letter for letter in text)


def printable(text: str) -> str:
    """Returns lines of text with other control characters escaped, and programs named as they are started."""
    return "\n".join(map(visible, as_started(text).split("\n")))


def say(text: str) -> None:
    """Prints a line, or lines; other control characters are escaped."""
    CONSOLE.print(printable(text), markup=False)


def say_progress(text: str) -> None:
    """Prints a line, unless quiet."""
    if not _hidden["progress"]:
        say(text)


def interruption() -> str:
    """Returns what is said to a user who interrupts a program."""
    after = f" after {_reached[-1]}" if _reached else ""
    return f"interrupted{after}; the same command goes on from there" if after else "interrupted; nothing is lost"


def show_table(
    title: str, header: Sequence[str], rows: Sequence[Sequence[str]], best: Collection[tuple[int, int]] = ()
) -> None:
    """Prints a table on a terminal; elsewhere or when quiet, a line for each row, with the names of its columns.

    Args:
      title: of the table.
      header: names of the columns, "" for none; the first column names the rows.
      rows: the cells; lines leave empty cells out.
      best: (row, column) of the cells to mark.
    """
    if not rows:
        return
    marked = [[text + " *" * ((i, j) in best) for j, text in enumerate(row)] for i, row in enumerate(rows)]
    if _hidden["tables"] or not CONSOLE.is_terminal:
        say(title)
        for first, *others in marked:
            say(
                "  ".join(
                    [first, *(f"{name} {text}".strip() for name, text in zip(header[1:], others, strict=True) if text)]
                )
            )
        return
    table = rich.table.Table(title=title)
    for j, name in enumerate(header):
        are_numbers = all(row[j][:1] in "+-.0123456789" for row in rows)
        table.add_column(name, justify="right" if are_numbers else "left")
    for i, row in enumerate(marked):
        table.add_row(*(rich.text.Text(visible(text), "bold" if (i, j) in best else "") for j, text in enumerate(row)))
    CONSOLE.print(table)


@contextlib.contextmanager
def fetching() -> Iterator[Callable[[int, int], None] | None]:
    """Yields a callback (bytes done, bytes in all) that moves a progress bar; None without a terminal."""
    if _hidden["progress"] or not CONSOLE.is_terminal:
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
    """Yields a callback for the history of a phase: it moves a bar on a terminal and prints a line elsewhere."""
    with _shown_epochs(epochs, metric) as show_epoch:
        phases: set[str] = set()

        def show(history: list[dict[str, Any]]) -> None:
            last = history[-1]
            _reached.append(f"{last['phase']} epoch {last['epoch']}")
            if last["phase"] not in phases and last["epoch"]:
                say_progress(f"resumes after {_reached[-1]}")
            phases.add(last["phase"])
            show_epoch(history)

        yield show


@contextlib.contextmanager
def _shown_epochs(epochs: int, metric: str) -> Iterator[Callable[[list[dict[str, Any]]], None]]:
    if _hidden["progress"]:
        yield lambda history: None
        return
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


def _is_control(letter: str) -> bool:
    return unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") or letter in BIDIRECTIONAL


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def _line(record: Mapping[str, Any], metric: str) -> str:
    parts = [f"{record['phase']:>6} epoch {record['epoch']:>3}"]
    if "loss" in record:
        parts.append(f"loss {record['loss']:.4f}")
    parts += [f"{name} {value:.4f}" for name, value in record.items() if name.startswith("task/")]
    if f"validation/{metric}" in record:
        parts.append(f"validation {metric_label(metric)} {record[f'validation/{metric}']:.4f}")
    return "  ".join(parts)
