"""Curves of the report: metrics by length of the list, and training by epoch."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from retrieval.pipeline.trained import FINAL, SEARCH

from ..shared.labels import MODEL, PROTOCOLS, metric_label, number
from .drawing import HEIGHT, MARGINS, WIDTH, file_name, new_axes, shorten, small_text, style
from .palette import Plot, colour
from .records import Records

LABELS_RIGHT = 108  # points, for names at the ends of curves


def curves_over_k(records: Records) -> list[Plot]:
    """Draws recall and nDCG against the length of the list: a curve for each system, with the band of its interval."""
    plots = []
    for metric, heading in (("recall", "Recall by length of the list"), ("ndcg", "nDCG by length of the list")):
        ks, protocol = records.ks(metric), records.protocols()[:1]
        if len(ks) < 2:
            continue
        label = metric_label(metric)
        margins = MARGINS | {"right": LABELS_RIGHT}
        figure, axes = new_axes("k, length of the list", f"{label}@k", margins=margins)
        titles: dict[str, list[str]] = {}
        ends: list[tuple[float, str]] = []
        for i, system in reversed(list(enumerate(records.systems))):
            names = [f"{system}/{protocol[0]}/{metric}_at_{k}" for k in ks]
            known = [(k, name) for k, name in zip(ks, names, strict=True) if name in records.metrics]
            if not known:
                continue
            titles[f"curve-{i}"] = [f"{records.title(system)}: {_value(records, name, k)}" for k, name in known]
            ends.append(_curve(axes, records, f"curve-{i}", system, known))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(FixedLocator(ks))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
        axes.set_ylim(bottom=0)
        _label_ends(axes, records, ends)
        bands = "Bands are 95 % intervals over users. " if records.intervals else ""
        caption = (
            f"Mean over the test users, full corpus, {PROTOCOLS[protocol[0]]}. {bands}The scale of k is logarithmic."
        )
        plots.append(Plot(f"{metric}_at_k", heading, caption, figure, titles))
    return plots


def _curve(axes: Axes, records: Records, group: str, system: str, known: Sequence[tuple[int, str]]):
    """Draws one system; returns height and name of the end of its curve."""
    colour_, marker = style(system)
    ks, values = [k for k, _ in known], [records.metrics[name] for _, name in known]
    if all(name in records.intervals for _, name in known):
        low, high = zip(*(records.intervals[name] for _, name in known), strict=True)
        axes.fill_between(ks, low, high, color=colour_, alpha=0.13, linewidth=0)
    axes.plot(ks, values, color=colour_, linewidth=2.2 if system == MODEL else 1.2)
    size = 34 if system == MODEL else 20
    axes.scatter(ks, values, s=size, color=colour_, marker=marker, linewidths=0, zorder=3, gid=group)
    return values[-1], system


def _label_ends(axes: Axes, records: Records, ends: Sequence[tuple[float, str]]) -> None:
    """Writes the name of each curve to the right of its end, moved so that no name covers another."""
    low, high = axes.get_ylim()
    step = (high - low) * 14 / (HEIGHT - MARGINS["top"] - MARGINS["bottom"])
    heights: list[float] = []
    for value, _ in sorted(ends):
        heights.append(max(value, heights[-1] + step if heights else low))
    for i in reversed(range(len(heights))):  # names pushed above the axes come down again
        heights[i] = min(heights[i], high if i == len(heights) - 1 else heights[i + 1] - step)
    for height, (_, system) in zip(heights, sorted(ends), strict=True):
        weight = "bold" if system == MODEL else "normal"
        text = {"va": "center", "fontsize": 10, "color": colour("ink"), "fontweight": weight}
        place = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
        axes.annotate(shorten(records.title(system), 18), (1, height), (20, 0), **place, **text)
        mark, marker = style(system)
        x = 1 + 13 / (WIDTH - MARGINS["left"] - LABELS_RIGHT)
        shape = {"s": 22, "color": mark, "marker": marker, "linewidths": 0, "clip_on": False}
        axes.scatter([x], [height], transform=axes.get_yaxis_transform(), **shape)


def validation_curve(records: Records, metric: str) -> list[Plot]:
    """Draws the metric on the validation part by epoch, and marks the chosen epoch."""
    name = f"validation/{metric}"
    points = [(record["epoch"], record[name]) for record in records.phase(SEARCH) if name in record]
    if not points:
        return []
    figure, axes = new_axes("epoch of the search", metric_label(metric))
    epochs, values = zip(*points, strict=True)
    axes.plot(epochs, values, color=colour("model"), linewidth=1.8)
    axes.scatter(epochs, values, s=16, color=colour("model"), linewidths=0, gid="validation")
    chosen = records.choice[1]
    if chosen in epochs:
        _mark(axes, chosen, values[epochs.index(chosen)], f"epoch {chosen} is chosen")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.15)
    caption = (
        f"{metric_label(metric)} on the validation part after each epoch of the search; epoch 0 is untrained. "
        "The best epoch is chosen"
        + (", and the final fit on train and validation takes as many epochs." if records.is_refitted() else ".")
    )
    titles = {"validation": [f"epoch {epoch}: {number(value)}" for epoch, value in points]}
    return [Plot("validation", "Validation", caption, figure, titles)]


def loss_curves(records: Records) -> list[Plot]:
    """Draws the training loss of each phase by epoch: of retrieval, and of each task."""
    names = dict.fromkeys(name for record in records.log for name in record if name.startswith("task/"))
    plots = [
        _loss_curve(
            records, "loss", "Training loss", "It grows with the batch: compare only runs of the same batch size."
        ),
        *(
            _loss_curve(records, n, f"Training loss of {n[5:]}", "Squared error, or log loss for a binary task.")
            for n in names
        ),
    ]
    return [plot for plot in plots if plot is not None]


def _loss_curve(records: Records, name: str, heading: str, caption: str) -> Plot | None:
    phases = {phase: [r for r in records.phase(phase) if name in r] for phase in (SEARCH, FINAL)}
    phases = {phase: logged for phase, logged in phases.items() if logged}
    if not phases:
        return None
    figure, axes = new_axes("epoch", "loss per example", margins=MARGINS | {"right": 66})
    titles = {}
    for phase, role, dashes in ((SEARCH, "grey", "--"), (FINAL, "model", "-")):
        if phase not in phases:
            continue
        epochs, losses = zip(*((r["epoch"], r[name]) for r in phases[phase]), strict=True)
        axes.plot(epochs, losses, dashes, color=colour(role), linewidth=1.8)
        axes.scatter(epochs, losses, s=16, color=colour(role), linewidths=0, gid=f"loss-{phase}")
        titles[f"loss-{phase}"] = [f"{phase}, epoch {e}: {number(x)}" for e, x in zip(epochs, losses, strict=True)]
        offset = (9, 7 if phase == SEARCH else -7)
        axes.annotate(phase, (epochs[-1], losses[-1]), offset, textcoords="offset points", va="center", fontsize=10)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return Plot(file_name(name), heading, f"Mean over an epoch, while the parameters change. {caption}", figure, titles)


def _mark(axes: Axes, x: float, y: float, text: str) -> None:
    axes.axvline(x, color=colour("vermillion"), linewidth=1, linestyle=(0, (3, 3)))
    axes.scatter([x], [y], s=60, facecolors="none", edgecolors=colour("vermillion"), linewidths=1.6, zorder=4)
    low, high = axes.get_xlim()
    right = x > (low + high) / 2
    axes.annotate(text, (x, y), (-9 if right else 9, -26), **small_text("right" if right else "left"))


def _value(records: Records, name: str, k: int) -> str:
    interval = records.intervals[name] if name in records.intervals else ()
    return f"{number(records.metrics[name])} at {k}" + (f" [{', '.join(map(number, interval))}]" if interval else "")
