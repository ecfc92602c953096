"""The page of a trade-off: curves of ranking against error, and the metrics of each weight."""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.ticker import MaxNLocator

from retrieval.common.storage import write_atomically
from retrieval.config.schema import Config, Task

from ..shared.labels import interval_text, metric_label, number
from .document import Tile, render
from .drawing import MARGINS, add_legend, file_name, new_axes, small_text
from .palette import SETTINGS, Plot, colour, write_png
from .tables import Cell, HtmlTable, config_table
from .trade_off import WeightResult, error_name, metric_titles

HEIGHT = 264  # points


def write_pareto(config: Config, results: Sequence[WeightResult], folder: pathlib.Path) -> None:
    """Writes `report.html`, and each of its plots as a PNG into `report/`.

    Args:
      config: has the weights that the factors multiply.
      results: one or more, by ascending factor.
      folder: has the runs in it.
    """
    (folder / "report").mkdir(exist_ok=True)
    metric = config.train.metric
    metric, parts = config.train.metric, ("validation", "test")
    with mpl.rc_context(SETTINGS):
        plots = {
            f"task-{i}": [curve(results, task, metric, part) for part in parts] for i, task in enumerate(config.tasks)
        }
        for plot in itertools.chain(*plots.values()):
            write_png(plot, folder / "report")
        weights = ", ".join(f"{task.name} {task.weight:g}" for task in config.tasks)
        page = render(
            "report/pareto.html",
            title=f"Retrieval and tasks of {config.name or 'an unnamed config'}",
            subtitle=f"{len(results)} weights · times {weights}",
            tiles=_tiles(config, results),
            sections={
                **{f"task-{i}": task.name for i, task in enumerate(config.tasks)},
                "figures": "Metrics of each weight",
                "run": "How it was run",
            },
            plots=plots,
            weights=_weights_table(config, results),
            config=config_table(config),
        )
        write_atomically(folder / "report.html", page)


def curve(results: Sequence[WeightResult], task: Task, metric: str, part: str) -> Plot:
    """Draws the ranking against the error of a task, a point for each weight; up and left is better.

    Args:
      results: by ascending factor.
      task: its error is drawn.
      metric: of the ranking.
      part: "validation", on which the front is marked, or "test", which has intervals.
    """
    error = error_name(task)
    label = metric_label(error.rpartition("/")[2])
    figure, axes = new_axes(
        f"{label} of {task.name}, better to the left", metric_label(metric), height=HEIGHT, margins=MARGINS
    )
    values = [getattr(result, part) for result in results]
    points = [(value[error], value[metric]) for value in values]
    axes.plot(*zip(*points, strict=True), color=colour("muted"), linewidth=1.0, zorder=2)
    if part == "test":
        _whiskers(axes, results, error, metric)
    on_front = [task.name in result.on_front for result in results]
    for is_on, role, name in ((True, "model", "on the front"), (False, "grey", "beaten by another weight")):
        own = [point for point, on in zip(points, on_front, strict=True) if on == is_on]
        if own:
            style = {"s": 44, "color": colour(role), "linewidths": 0, "zorder": 3, "label": name}
            axes.scatter(*zip(*own, strict=True), gid=f"front-{is_on}", **style)
    for i, (result, point) in enumerate(zip(results, points, strict=True)):
        around = [height for _, height in points[max(i - 1, 0) : i + 2]]
        offset = (0, 9 if point[1] >= sum(around) / len(around) else -18)  # away from the curve
        axes.annotate(f"× {result.factor:g}", point, offset, **small_text("center"))
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.margins(x=0.14, y=0.14)
    add_legend(axes)
    titles = {
        f"front-{is_on}": [
            f"weight × {result.factor:g}, epoch {result.epoch}: {metric_label(metric)} {number(value[metric])}, "
            f"{label} {number(value[error])}"
            for result, value, on in zip(results, values, on_front, strict=True)
            if on == is_on
        ]
        for is_on in (True, False)
    }
    heading = f"{task.name} on the {'validation' if part == 'validation' else 'test'} part"
    return Plot(file_name(f"pareto_{task.name}_{part}"), heading, _caption(part, task), figure, titles)


def _caption(part: str, task: Task) -> str:
    if part == "validation":
        return (
            f"Each point multiplies the task's weight, {task.weight:g}; choose by this part. On the front, no other "
            "weight is better in one metric and not worse in the other. × 0 is retrieval alone: its head predicts the "
            "mean."
        )
    return "The same weights on the test part, after the last fit; crosses are 95 % intervals over users."


def _whiskers(axes, results: Sequence[WeightResult], error: str, metric: str) -> None:
    style = {"color": colour("model"), "alpha": 0.35, "linewidth": 1.2, "zorder": 1}
    for result in results:
        x, y = result.test[error], result.test[metric]
        axes.plot(result.intervals[error], [y, y], **style)
        axes.plot([x, x], result.intervals[metric], **style)


def _tiles(config: Config, results: Sequence[WeightResult]) -> list[Tile]:
    """Returns the best of each metric on the validation part, and the same weight's metric on test."""
    tiles = []
    for i, (name, title) in enumerate(metric_titles(config).items()):
        best = (max if i == 0 else min)(results, key=lambda result, name=name: result.validation[name])
        notes = [f"on test {number(best.test[name])}", f"weights × {best.factor:g}"]
        tiles.append(Tile(f"best {title} on validation", number(best.validation[name]), notes))
    return tiles


def _weights_table(config: Config, results: Sequence[WeightResult]) -> HtmlTable:
    titles = metric_titles(config)
    columns = [(part, name) for part in ("validation", "test") for name in titles]
    rows = []
    for result in results:
        cells = [
            Cell(
                number(getattr(result, part)[name]),
                interval=interval_text(result.intervals[name]) if part == "test" else "",
            )
            for part, name in columns
        ]
        rows.append([f"× {result.factor:g}", str(result.epoch), *cells, ", ".join(result.on_front) or "–"])
    return HtmlTable(["weights", "epoch", *(f"{part} {titles[name]}" for part, name in columns), "front"], rows)
