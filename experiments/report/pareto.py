"""The page of a trade-off: the curve of ranking against error, and the figures of each weight."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from html import escape

import matplotlib as mpl
from matplotlib.ticker import MaxNLocator

from experiments.report.document import document, figures, key_figures
from experiments.report.drawing import MARGINS, add_legend, file_name, new_axes, small_text
from experiments.report.palette import SETTINGS, Plot, colour, write_png
from experiments.report.records import metric_label, number
from experiments.report.tables import config_table, interval_text, table
from experiments.report.trade_off import Interval, Point, figure_of, figures_of
from retrieval.common.storage import write_atomically
from retrieval.config.schema import Config, Task

HEIGHT = 264  # points


def write_pareto(config: Config, points: Sequence[Point], folder: pathlib.Path) -> None:
    """Writes `report.html`, and each of its figures as a PNG into `report/`.

    Args:
      config: what the weights are of.
      points: one or more, by ascending factor.
      folder: that holds the runs.
    """
    (folder / "report").mkdir(exist_ok=True)
    metric = config.train.metric
    with mpl.rc_context(SETTINGS):
        plots = {
            task.name: [curve(points, task, metric, part) for part in ("validation", "test")] for task in config.tasks
        }
        for of_task in plots.values():
            for plot in of_task:
                write_png(plot, folder / "report")
        sections = {f"task-{i}": (escape(name), figures(of)) for i, (name, of) in enumerate(plots.items())}
        sections |= {
            "figures": ("Figures", _figures(config, points)),
            "run": ("How it was run", f"<h3>Differs from the defaults</h3>{config_table(config)}"),
        }
        title = f"Retrieval and tasks of {config.name or 'an unnamed config'}"
        weights = ", ".join(f"{task.name} {task.weight:g}" for task in config.tasks)
        page = document(title, f"{len(points)} weights · times {weights}", _tiles(config, points), sections)
        write_atomically(folder / "report.html", page)


def curve(points: Sequence[Point], task: Task, metric: str, part: str) -> Plot:
    """Draws the ranking against the error of a task, a point for each weight; better is up and to the left.

    Args:
      points: by ascending factor.
      task: whose error is drawn.
      metric: of the ranking.
      part: "validation", which marks the front, or "test", which has intervals.
    """
    error = figure_of(task)
    label = metric_label(error.rpartition("/")[2])
    figure, axes = new_axes(
        f"{label} of {task.name}, better to the left", metric_label(metric), height=HEIGHT, margins=MARGINS
    )
    values = [getattr(point, part) for point in points]
    places = [(of[error], of[metric]) for of in values]
    axes.plot(*zip(*places, strict=True), color=colour("muted"), linewidth=1.0, zorder=2)
    if part == "test":
        _whiskers(axes, points, error, metric)
    on_front = [task.name in point.on_front for point in points]
    for is_on, role, name in ((True, "model", "on the front"), (False, "grey", "beaten by another weight")):
        own = [place for place, on in zip(places, on_front, strict=True) if on == is_on]
        if own:
            style = {"s": 44, "color": colour(role), "linewidths": 0, "zorder": 3, "label": name}
            axes.scatter(*zip(*own, strict=True), gid=f"front-{is_on}", **style)
    for i, (point, place) in enumerate(zip(points, places, strict=True)):
        around = [height for _, height in places[max(i - 1, 0) : i + 2]]
        beside = (0, 9 if place[1] >= sum(around) / len(around) else -18)  # away from the curve
        axes.annotate(f"× {point.factor:g}", place, beside, **small_text("center"))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.14, y=0.14)
    add_legend(axes)
    titles = {
        f"front-{is_on}": [
            f"weight × {point.factor:g}, epoch {point.epoch}: {metric_label(metric)} {number(of[metric])}, "
            f"{label} {number(of[error])}"
            for point, of, on in zip(points, values, on_front, strict=True)
            if on == is_on
        ]
        for is_on in (True, False)
    }
    heading = f"{task.name} on the {'validation' if part == 'validation' else 'test'} part"
    return Plot(file_name(f"pareto_{task.name}_{part}"), heading, _caption(part, task), figure, titles)


def _caption(part: str, task: Task) -> str:
    if part == "validation":
        return (
            f"Points are factors of the task's weight, {task.weight:g}; this part decides. On the front, no other "
            "is better in one figure and not worse in the other. × 0 is retrieval alone: its head knows the mean."
        )
    return "The same weights on the test part, after the last fit; crosses are 95 % intervals over users."


def _whiskers(axes, points: Sequence[Point], error: str, metric: str) -> None:
    style = {"color": colour("model"), "alpha": 0.35, "linewidth": 1.2, "zorder": 1}
    for point in points:
        x, y = point.test[error], point.test[metric]
        axes.plot(point.intervals[error], [y, y], **style)
        axes.plot([x, x], point.intervals[metric], **style)


def _tiles(config: Config, points: Sequence[Point]) -> str:
    """Returns the best of each figure on the validation part, and what it is on test."""
    tiles = []
    for i, (name, label) in enumerate(figures_of(config).items()):
        best = (max if i == 0 else min)(points, key=lambda point, name=name: point.validation[name])
        notes = [f"on test {number(best.test[name])}", f"weights × {best.factor:g}"]
        tiles.append((f"best {label} on validation", number(best.validation[name]), notes))
    return key_figures(tiles)


def _figures(config: Config, points: Sequence[Point]) -> str:
    labels = figures_of(config)
    parts = [(part, name) for part in ("validation", "test") for name in labels]
    header = ["weights", "epoch", *(f"{part} {escape(labels[name])}" for part, name in parts), "front"]
    rows = []
    for point in points:
        cells = [
            _cell(getattr(point, part)[name], point.intervals[name] if part == "test" else ()) for part, name in parts
        ]
        rows.append([f"× {point.factor:g}", str(point.epoch), *cells, escape(", ".join(point.on_front)) or "–"])
    return table(header, rows, "figures")


def _cell(value: float, interval: Interval) -> str:
    return number(value) + (f'<span class="interval">{interval_text(interval)}</span>' if interval else "")
