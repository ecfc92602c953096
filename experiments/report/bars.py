"""Bars of the report: slices, calibration of popularity, ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from ..shared.labels import MODEL, POPULARITY, column_label, interval_text, metric_label, number, value_label
from .drawing import MARGINS, add_legend, as_percent, file_name, new_axes, sample_text, shorten
from .findings import LENGTH, Findings
from .palette import Plot, colour
from .records import Records

ROW = 20  # height of a bar with its gap, in points
MOST_ROWS = 24


def slice_bars(records: Records, metric: str) -> list[Plot]:
    """Draws a metric of the model by slice, beside the most-popular baseline: a plot for each column."""
    metric = slice_metric(records, metric)
    columns: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for entry in records.slices:
        by_value = columns.setdefault((entry["of"], entry["column"]), {})
        by_value.setdefault(value_label(entry["column"], str(entry["value"])), {})[entry["system"]] = entry
    plots = []
    for (side, column), by_value in columns.items():
        rows = [row for row in by_value.items() if MODEL in row[1] and metric in row[1][MODEL]["figures"]]
        if rows:
            plots.append(_slice_bars(side, column, rows[:MOST_ROWS], metric, len(rows)))
    return plots


def slice_metric(records: Records, metric: str) -> str:
    """Returns `metric` if the slices have it, else the first metric of the slices; "" without slices."""
    names = [name for entry in records.slices for name in entry["figures"]]
    return metric if metric in names else next(iter(names), "")


def _slice_bars(side: str, column: str, rows: Sequence[tuple[str, Mapping]], metric: str, num_rows: int) -> Plot:
    height, margins = ROW * len(rows) + 64, MARGINS | {"left": 118, "right": 54, "top": 22}
    figure, axes = new_axes(metric_label(metric), "", height=height, margins=margins)
    axes.grid(axis="x", color=colour("line"), linewidth=0.8)
    axes.grid(visible=False, axis="y")
    titles = []
    for i, (value, systems) in enumerate(rows):
        entry = systems[MODEL]
        mean, num_users = entry["figures"][metric], entry["num_queries"]
        interval = entry["intervals"][metric] if metric in entry["intervals"] else (mean, mean)
        titles.append(f"{value}: {number(mean)} [{interval_text(interval)}], {num_users} users")
        axes.plot(interval, [i, i], color=colour("ink"), linewidth=1.4, solid_capstyle="butt")
        if POPULARITY in systems and metric in systems[POPULARITY]["figures"]:
            popular = systems[POPULARITY]["figures"][metric]
            axes.scatter([popular], [i], s=24, color=colour("vermillion"), marker="s", linewidths=0, zorder=4)
    values = [systems[MODEL]["figures"][metric] for _, systems in rows]
    bars = axes.barh(range(len(rows)), np.nan_to_num(values), 0.62, color=colour("model"), alpha=0.55, linewidth=0)
    for i, bar in enumerate(bars):
        bar.set_gid(f"bar-{i}")
    axes.set_yticks(range(len(rows)), [shorten(value, 18) for value, _ in rows], color=colour("ink"))
    aside = {"transform": axes.get_yaxis_transform(), "ha": "right", "fontsize": 9.5, "color": colour("muted")}
    for i, (_, systems) in enumerate(rows):
        axes.text(1.18, i, f"{systems[MODEL]['num_queries']:,}", va="center", **aside)
    axes.text(1.18, -0.65, "users", **aside)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(left=0)
    subject, by = "Users" if side == "queries" else "Test items", column_label(column)
    caption = "" if side == "queries" else "Only items of the slice count as relevant, for the users who have some. "
    caption += f"The first {MOST_ROWS} of {num_rows} values." if num_rows > len(rows) else ""
    by_bar = {f"bar-{i}": [title] for i, title in enumerate(titles)}
    return Plot(file_name(f"slices_{side}_{column}"), f"{subject} by {by}", caption.strip(), figure, by_bar)


def calibration(findings: Findings) -> Plot:
    """Draws the share of the recommendations that each tenth of train gets."""
    groups = findings.calibration
    figure, axes = new_axes("most popular   ←   items in the group   →   least popular", "share")
    x = np.arange(len(groups.sizes))
    bars = axes.bar(x, groups.lists[MODEL], 0.7, color=colour("model"), alpha=0.75, linewidth=0, label="recommended")
    axes.step([-0.5, *(x + 0.5)], [groups.train[0], *groups.train], color=colour("ink"), label="train", linewidth=1.4)
    axes.scatter(x, groups.test, s=26, color=colour("orange"), marker="D", linewidths=0, label="test", zorder=3)
    axes.scatter(
        x, groups.lists[POPULARITY], s=24, color=colour("vermillion"), marker="s", linewidths=0, label="most popular"
    )
    axes.set_xticks(x, [f"{size:,}" for size in groups.sizes], fontsize=9)
    axes.yaxis.set_major_formatter(FuncFormatter(as_percent))
    add_legend(axes)
    titles = {}
    for i, bar in enumerate(bars):
        bar.set_gid(f"bar-{i}")
        titles[f"bar-{i}"] = [
            f"{groups.sizes[i]:,} items: {groups.lists[MODEL][i]:.1%} of the recommendations, "
            f"{groups.train[i]:.1%} of train, {groups.test[i]:.1%} of test"
        ]
    caption = (
        "Items in groups that each have about a tenth of train, the most popular first. A calibrated model follows "
        f"the line; a model that favours popular items is above it on the left. First {LENGTH} items of each list, "
        f"train excluded, {sample_text(findings)}."
    )
    return Plot("popularity_calibration", "Calibration of popularity", caption, figure, titles)


def ranks(findings: Findings) -> Plot:
    """Draws the distribution of the ranks of the relevant items."""
    figure, axes = new_axes("rank, 1 is best", "share of test interactions")
    bins = int(np.log2(findings.num_candidates)) + 1
    shares = {}
    for system, found_ranks in findings.ranks.items():
        found = np.bincount(np.log2(found_ranks).astype(int), minlength=bins)
        shares[system] = found / max(found.sum(), 1)
    x = np.arange(bins)
    bars = axes.bar(x, shares[MODEL], 0.92, color=colour("model"), alpha=0.75, linewidth=0, label="model")
    edges, popular = np.arange(bins + 1) - 0.5, shares[POPULARITY]
    axes.stairs(popular, edges, color=colour("vermillion"), linewidth=1.6, label="most popular")
    starts = 2 ** np.arange(bins)
    ends = np.minimum(2 * starts - 1, findings.num_candidates)
    every = -(-bins // 10)
    axes.set_xticks(edges[:-1:every], [f"{start:,}" for start in starts[::every]], fontsize=9)
    axes.yaxis.set_major_formatter(FuncFormatter(as_percent))
    add_legend(axes)
    titles = {}
    for i, bar in enumerate(bars):
        bar.set_gid(f"bar-{i}")
        both = f"{shares[MODEL][i]:.1%}, most popular {popular[i]:.1%}"
        titles[f"bar-{i}"] = [f"ranks {starts[i]:,} to {ends[i]:,}: {both}"]
    caption = (
        f"Ranks of the test items among all {findings.num_candidates:,} items, train excluded; each bar spans twice "
        f"the ranks of the bar before. Further left is better. {sample_text(findings).capitalize()}."
    )
    return Plot("ranks", "Ranks of the test items", caption, figure, titles)
