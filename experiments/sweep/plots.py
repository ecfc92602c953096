"""The plots of a sweep: its progress, the importance of the settings, and the effect of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from retrieval.config.space import Choice, Declaration, LogUniform, Space

from ..report.drawing import MARGINS, add_legend, as_percent, file_name, new_axes, shorten, small_text
from ..report.palette import Plot, colour
from ..shared.labels import metric_label, number
from .folder import Trial
from .importance import LEAST, effect_size

ROW = 26  # points a row of bars takes
STATES = {"complete": ("model", "o"), "pruned": ("grey", "o"), "diverged": ("orange", "X")}  # colour, marker
SHOWN = 0.85  # share of the trials, the best, that fit into the height of the axes
GOLDEN = 0.618034  # spreads points at one value, without randomness


def progress(trials: Sequence[Trial], metric: str) -> Plot:
    """Draws the best metric of each trial in the order of the trials, and the best so far."""
    figure, axes = new_axes("trial", metric_label(metric))
    numbers, values = [trial.number for trial in trials], [trial.best[1] for trial in trials]
    floor = _set_floor(axes, values)
    axes.step(numbers, np.maximum.accumulate(values), where="post", color=colour("ink"), linewidth=1.4, zorder=2)
    titles = _points(axes, trials, numbers, floor)
    _ring(axes, max(trials, key=_rank_key).number, max(values))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.04)
    add_legend(axes)
    caption = (
        f"The best {metric_label(metric)} of each trial on the validation part; the line is the best so far. "
        "Trial 1 has the settings of the config, where the space contains them. "
        "A trial is pruned where it is below the median of the others at the same epoch."
    )
    return Plot("progress", "Trials", caption, figure, titles)


def curves(trials: Sequence[Trial], metric: str) -> Plot:
    """Draws the metric of each trial by epoch."""
    figure, axes = new_axes("epoch of the search", metric_label(metric))
    best = max(trials, key=_rank_key)
    _set_floor(axes, [value for trial in trials for _, value in trial.curve[len(trial.curve) // 4 :]])
    for trial in sorted(trials, key=lambda trial: (trial is best, trial.state == "complete")):
        role, width = STATES[trial.state][0], 0.8
        options = {"color": colour(role), "linewidth": width, "alpha": 0.55}
        if trial is best:
            options = {"color": colour("vermillion"), "linewidth": 2.2}
        axes.plot(*zip(*trial.curve, strict=True), **options)
    epoch, value = best.best
    axes.annotate(f"trial {best.number}", (epoch, value), (0, 8), **small_text("center"))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    caption = (
        "Every trial by epoch: blue complete, grey pruned, orange diverged, the best one in bold. Epoch 0 is untrained."
    )
    return Plot("curves", "Validation by epoch", caption, figure)


def importances(trials: Sequence[Trial], space: Space) -> list[Plot]:
    """Draws the importance of each setting; nothing with too few different trials."""
    distinct = list({repr(trial.settings): trial for trial in trials}.values())
    if len(distinct) < LEAST:
        return []
    scores = [trial.best[1] for trial in distinct]
    shares = {
        field: effect_size([trial.settings[field] for trial in distinct], scores, isinstance(declared, Choice))
        for field, declared in space.items()
    }
    ordered = sorted(shares, key=lambda field: -shares[field])
    height, margins = ROW * len(ordered) + 64, MARGINS | {"left": 166, "right": 44, "top": 12}
    figure, axes = new_axes("share of the variance of ranks", "", height=height, margins=margins)
    axes.grid(visible=False, axis="y")
    bars = axes.barh(range(len(ordered)), [shares[field] for field in ordered], 0.6, color=colour("model"), alpha=0.75)
    titles = {}
    for i, (bar, field) in enumerate(zip(bars, ordered, strict=True)):
        bar.set_gid(f"bar-{i}")
        share = f"{100 * shares[field]:.0f} %"
        titles[f"bar-{i}"] = [f"{field}: {share}"]
        axes.annotate(share, (shares[field], i), (5, 0), va="center", **small_text("left"))
    axes.set_yticks(range(len(ordered)), [shorten(field, 27) for field in ordered], color=colour("ink"))
    axes.set_ylim(len(ordered) - 0.4, -0.6)
    axes.set_xlim(0, max(1.15 * max(shares.values()), 0.1))
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(as_percent))
    caption = (
        f"Share of the order of the {len(distinct)} different trials that each setting explains by itself (effect size "
        "of the Kruskal-Wallis test, corrected for chance). It leaves out interactions of settings, and depends on the "
        "values that were tried, more of which are near the best."
    )
    return [Plot("importance", "Importance", caption, figure, titles)]


def slices(trials: Sequence[Trial], space: Space, metric: str) -> list[Plot]:
    """Draws the trials by setting, a plot for each."""
    return [_slice(trials, field, declared, metric) for field, declared in space.items()]


def _slice(trials: Sequence[Trial], field: str, declared: Declaration, metric: str) -> Plot:
    is_log = isinstance(declared, LogUniform)
    figure, axes = new_axes(field + (", logarithmic" if is_log else ""), metric_label(metric))
    floor = _set_floor(axes, [trial.best[1] for trial in trials])
    xs = [_x(trial, field, declared) for trial in trials]
    if is_log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
    titles = _points(axes, trials, xs, floor)
    best = max(trials, key=_rank_key)
    _ring(axes, xs[trials.index(best)], best.best[1])
    if isinstance(declared, Choice):
        axes.set_xticks(range(len(declared.values)), [shorten(str(value), 12) for value in declared.values])
        axes.set_xlim(-0.5, len(declared.values) - 0.5)
    else:
        low, high = float(declared.low), float(declared.high)
        margin = (high / low) ** 0.04 if is_log else 0.04 * (high - low)
        axes.set_xlim(*((low / margin, high * margin) if is_log else (low - margin, high + margin)))
    add_legend(axes)
    return Plot(file_name(f"slice_{field}"), field, f"Best: {best.settings[field]}.", figure, titles)


def _x(trial: Trial, field: str, declared: Declaration) -> float:
    if not isinstance(declared, Choice):
        return float(trial.settings[field])
    spread = 0.4 * (trial.number * GOLDEN % 1 - 0.5)
    return declared.values.index(trial.settings[field]) + spread


def _points(axes: Axes, trials: Sequence[Trial], xs: Sequence[float], floor: float) -> Mapping[str, list[str]]:
    """Draws trials as points, those below the axes as triangles on the bottom; returns their titles by group."""
    titles: dict[str, list[str]] = {}
    for state, (role, marker) in STATES.items():
        for is_below in (False, True):
            group = f"{state}-below" if is_below else state
            own = [(x, t) for x, t in zip(xs, trials, strict=True) if _is_in(t, state, is_below, floor)]
            if own:
                heights = [floor if is_below else trial.best[1] for _, trial in own]
                style: dict[str, Any] = {"color": colour(role), "linewidths": 0, "zorder": 3, "gid": group}
                style |= {"marker": "v" if is_below else marker, "clip_on": not is_below}
                axes.scatter([x for x, _ in own], heights, s=30, alpha=0.8, **style)
                titles[group] = [_title(trial) for _, trial in own]
    for state in dict.fromkeys(trial.state for trial in trials):
        role, marker = STATES[state]
        axes.scatter([], [], s=30, color=colour(role), marker=marker, linewidths=0, label=state)
    return titles


def _is_in(trial: Trial, state: str, is_below: bool, floor: float) -> bool:
    return trial.state == state and (trial.best[1] < floor) == is_below


def _title(trial: Trial) -> str:
    epoch, value = trial.best
    settings = ", ".join(f"{field} {setting}" for field, setting in trial.settings.items())
    return f"trial {trial.number}, {trial.state}: {number(value)} at epoch {epoch}; {settings}"


def _rank_key(trial: Trial) -> tuple[float, int]:
    return trial.best[1], -trial.number


def _ring(axes: Axes, x: float, y: float) -> None:
    """Marks the best trial."""
    style = {"facecolors": "none", "edgecolors": colour("vermillion"), "linewidths": 1.6, "zorder": 4}
    axes.scatter([x], [y], s=80, label="best", **style)


def _set_floor(axes: Axes, values: Sequence[float]) -> float:
    """Fits the axes to most values, so that a few bad trials do not flatten the rest; returns their bottom."""
    top = max(values)
    low = float(np.quantile(values, 1 - SHOWN))
    height = max(top - low, 1e-3)
    floor = max(low - 0.08 * height, min(values) - 0.08 * height)
    axes.set_ylim(floor, top + 0.1 * height)
    return floor
