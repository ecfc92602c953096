"""The map of the candidates."""

from __future__ import annotations

from experiments.report.drawing import add_legend, new_axes, shorten
from experiments.report.findings import Atlas
from experiments.report.palette import Plot, colour
from experiments.report.records import POPULARITY

CATEGORIES = ("model", "vermillion", "green", "pink", "orange", "sky")  # roles of colours


def atlas(laid_out: Atlas) -> Plot:
    """Draws the candidates in the plane, coloured by group."""
    margins = {"left": 10, "right": 10, "bottom": 10, "top": 46}
    figure, axes = new_axes("", "", height=380, margins=margins)
    axes.spines["bottom"].set_visible(False)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    titles = {}
    roles = {name: role for name, role in zip(laid_out.names, CATEGORIES, strict=False) if name != "other"}
    for group in reversed(range(len(laid_out.names))):
        name, members = laid_out.names[group], laid_out.groups == group
        role = roles[name] if name in roles else "grey"
        points = laid_out.points[members]
        faint = name not in roles
        axes.scatter(
            *points.T,
            7 if faint else 15,
            colour(role),
            alpha=0.45 if faint else 0.8,
            linewidths=0,
            label=shorten(name, 20),
            gid=f"map-{group}",
            zorder=1 if faint else 2,
        )
        titles[f"map-{group}"] = laid_out.titles[members].tolist()
    handles, labels = axes.get_legend_handles_labels()
    add_legend(axes, handles[::-1], labels[::-1], columns=4)
    by_value = f"the rarest of its most common {laid_out.column.replace('_', ' ')}"
    caption = (
        f"The {len(laid_out.points):,} most popular candidates: directions of their embeddings on the two principal "
        f"components, which keep {laid_out.explained:.0%} of the variance. Each has the colour of "
        f"{'its popularity' if laid_out.column == POPULARITY else by_value}. Point at one for its title."
    )
    return Plot("candidate_map", "Map of the candidates", caption, figure, titles)
