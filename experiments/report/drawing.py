"""Shared parts of the plots: axes, colours of systems, legends, short texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from retrieval.baselines import BASELINES

from ..shared.labels import MODEL, TOWERS
from .findings import Findings
from .palette import UNIT, colour

WIDTH, HEIGHT = 350, 240  # points
MARGINS = {"left": 44, "right": 14, "bottom": 42, "top": 28}  # points
STYLES = {  # system -> role of its colour, marker
    MODEL: ("model", "o"),
    TOWERS: ("sky", "o"),
    **{name: (baseline.colour, baseline.marker) for name, baseline in BASELINES.items()},
}


def style(system: str) -> tuple[str, str]:
    """Returns the colour and the marker of a system."""
    role, marker = STYLES[system] if system in STYLES else ("grey", "*")
    return colour(role), marker


def new_axes(
    x_label: str, y_label: str, *, height: float = HEIGHT, margins: Mapping[str, float] = MARGINS
) -> tuple[Figure, Axes]:
    """Returns a figure with one pair of axes, drawn with as little ink as possible."""
    figure = Figure(figsize=(WIDTH * UNIT, height * UNIT))
    left, bottom = margins["left"] / WIDTH, margins["bottom"] / height
    size = (1 - left - margins["right"] / WIDTH, 1 - bottom - margins["top"] / height)
    axes = figure.add_axes((left, bottom, *size))
    axes.patch.set_visible(False)
    axes.spines[["top", "left", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(colour("muted"))
    axes.tick_params(length=0, labelsize=10, labelcolor=colour("muted"), pad=5)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=colour("line"), linewidth=0.8)
    axes.set_xlabel(x_label, color=colour("muted"), fontsize=10.5, labelpad=6)
    axes.text(
        -margins["left"] / (WIDTH * size[0]) + 0.01,
        1 + 12 / (height * size[1]),
        y_label,
        transform=axes.transAxes,
        color=colour("muted"),
        fontsize=10.5,
    )
    return figure, axes


def add_legend(axes: Axes, *handles, columns: int = 4, lift: float = 0) -> None:
    """Puts a legend above the axes, on the right.

    Args:
      axes: the axes.
      *handles: as in `Axes.legend`.
      columns: entries side by side.
      lift: points between legend and axes.
    """
    points = axes.get_position().height * axes.figure.get_figheight() / UNIT
    options = {"frameon": False, "fontsize": 10, "labelcolor": colour("ink"), "handletextpad": 0.4}
    place = {
        "loc": "lower right",
        "bbox_to_anchor": (1.02, 0.99 + lift / points),
        "columnspacing": 1.0,
        "handlelength": 1.2,
    }
    axes.legend(*handles, ncols=columns, **options, **place, borderaxespad=0)


def small_text(align: str) -> dict[str, Any]:
    """Returns the options of `Axes.annotate` for a short text beside a mark."""
    return {"textcoords": "offset points", "ha": align, "fontsize": 9.5, "color": colour("ink")}


def sample_text(findings: Findings) -> str:
    """Returns how many of the test users the findings are about, as text."""
    if findings.num_sampled == findings.num_queries:
        return f"all {findings.num_queries:,} test users"
    return f"{findings.num_sampled:,} of {findings.num_queries:,} test users"


def as_percent(value: float, _: int) -> str:
    """Formats a share for an axis; a matplotlib `FuncFormatter` calls it."""
    return f"{100 * value:g} %"


def shorten(text: str, length: int) -> str:
    """Returns a text on one line, cut to `length` characters."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1] + "…"


def file_name(text: str) -> str:
    """Returns a text in which "_" replaces the characters that a file name may not have."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in text)
