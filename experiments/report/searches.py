"""Draws recall against search time of every index that was tried."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from retrieval.index import Certificate, CurvePoint
from retrieval.index.hnsw.spaces import EUCLIDEAN, INNER_PRODUCT, NORMALIZED

from ..shared.labels import number
from .drawing import HEIGHT, MARGINS, add_legend, new_axes, small_text
from .palette import Plot, colour

ROLES = {INNER_PRODUCT: "model", NORMALIZED: "green", EUCLIDEAN: "violet"}
DASHES = ("-", "--", ":")  # by M
LEGEND_ROW, ABOVE_LABEL = 16, 25  # points of the legend: a row, and over the label of the axis


def search_plot(certificate: Certificate) -> Plot:
    """Draws recall against time of exact search and of each tried graph, the target, and the chosen index."""
    exact, *tried = certificate.curve
    chosen, graphs = certificate.chosen, _by_graph(tried)
    columns = 2 if {size for *_, size in graphs} <= {exact.num_candidates} else 1  # names with sizes are long
    legend = LEGEND_ROW * math.ceil(len(graphs) / columns)
    figure, axes = new_axes(
        "microseconds a query, logarithmic",
        f"recall@{certificate.k} against exact search",
        height=HEIGHT + legend,
        margins=MARGINS | {"top": MARGINS["top"] + legend},
    )
    titles = _draw_graphs(axes, graphs, exact.num_candidates)
    mark = {"s": 40, "color": colour("vermillion"), "marker": "D", "linewidths": 0, "zorder": 4}
    axes.scatter([exact.microseconds], [1.0], gid="exact", **mark)
    axes.annotate("exact", (exact.microseconds, 1.0), (0, 10), **small_text("center"))
    ring = {"s": 120, "facecolors": "none", "edgecolors": colour("vermillion"), "linewidths": 1.6, "zorder": 5}
    axes.scatter([chosen.microseconds], [chosen.recall], **ring)
    axes.axhline(certificate.target, color=colour("grey"), linewidth=1, linestyle=(0, (3, 3)))
    _scale(axes, min([point.recall for point in tried] + [0.98]))
    if tried:
        add_legend(axes, columns=columns, lift=ABOVE_LABEL)
    return Plot(
        name="index",
        heading="Recall of the index against its time",
        caption=f"The ring marks the chosen index: {certificate.reason}. Measured during the choice, on all threads.",
        figure=figure,
        titles=titles | {"exact": [f"exact: {exact.microseconds:.3g} µs"]},
    )


def _by_graph(points: Sequence[CurvePoint]) -> Mapping[tuple[str, int, int], list[CurvePoint]]:
    graphs: dict[tuple[str, int, int], list[CurvePoint]] = {}
    for point in points:
        graphs.setdefault((point.space, point.M, point.num_candidates), []).append(point)
    return graphs


def _draw_graphs(
    axes: Axes, graphs: Mapping[tuple[str, int, int], list[CurvePoint]], whole: int
) -> dict[str, list[str]]:
    """Draws a line for each graph, and returns the titles of its points."""
    titles = {}
    all_m = sorted({M for _, M, _ in graphs})
    for graph_number, ((space, M, size), points) in enumerate(graphs.items()):
        name = f"{space.replace('_', ' ')}, M {M}" + ("" if size == whole else f", {size:,} items")
        times, recalls = [p.microseconds for p in points], [p.recall for p in points]
        dashes = DASHES[all_m.index(M) % len(DASHES)]
        faint = 1 if size == whole else 0.5
        axes.plot(times, recalls, label=name, color=colour(ROLES[space]), linestyle=dashes, alpha=faint)
        style = {"s": 20, "color": colour(ROLES[space]), "linewidths": 0, "zorder": 3, "alpha": faint}
        axes.scatter(times, recalls, gid=f"search-{graph_number}", **style)
        titles[f"search-{graph_number}"] = [
            f"{name}, ef {p.ef}: recall {number(p.recall)}, {p.microseconds:.3g} µs" for p in points
        ]
    return titles


def _scale(axes: Axes, low: float) -> None:
    axes.set_xscale("log")
    axes.margins(x=0.15)
    left, right = axes.get_xlim()
    if right < 10 * left:  # hardly a power of ten to label
        axes.xaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.xaxis.set_minor_formatter(FuncFormatter(_second_and_fifth))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.tick_params(which="minor", labelsize=10, labelcolor=colour("muted"), length=0, pad=5)
    axes.set_ylim(low - 0.1 * (1 - low), 1 + 0.15 * (1 - low))


def _second_and_fifth(value: float, _: int) -> str:
    return f"{value:g}" if f"{value:e}"[0] in "25" else ""
