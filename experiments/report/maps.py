"""Draws the map of the items."""

from __future__ import annotations

from collections.abc import Sequence

from .drawing import WIDTH, add_legend, file_name, new_axes, shorten
from .item_map import Grouping, ItemMap
from .palette import Plot, colour

CATEGORIES = ("model", "vermillion", "green", "pink", "orange", "sky")  # roles of colours
STEPS = ("vermillion", "orange", "sky", "model")  # of ordered groups


def item_maps(item_map: ItemMap) -> list[Plot]:
    """Draws the items in the plane, a plot for each grouping."""
    return [_map(item_map, grouping) for grouping in item_map.groupings]


def _map(item_map: ItemMap, grouping: Grouping) -> Plot:
    labels = [shorten(name, 16) for name in grouping.names]
    columns = max(1, min(4, int(WIDTH / (28 + 5.5 * max(map(len, labels))))))
    margins = {"left": 8, "right": 14, "bottom": 8, "top": 18 + 15 * -(-len(labels) // columns)}
    figure, axes = new_axes("", "", height=280 + margins["top"], margins=margins)
    axes.spines["bottom"].set_visible(False)
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    roles = STEPS if grouping.is_ordered else CATEGORIES
    titles: dict[str, Sequence[str]] = {}
    for group in reversed(range(len(grouping.names))):
        members = grouping.groups == group
        faint = group >= len(roles) or not members.any()
        axes.scatter(
            *item_map.points[members].T,
            s=6 if faint else 14,
            color=colour("grey" if faint else roles[group]),
            alpha=0.5 if faint else 0.85,
            linewidths=0,
            label=labels[group],
            gid=f"map-{group}",
            zorder=1 if faint else 2,
        )
        titles[f"map-{group}"] = item_map.titles[members].tolist()
    handles, _ = axes.get_legend_handles_labels()
    add_legend(axes, handles[::-1], labels, columns=columns)
    by = grouping.column.replace("_", " ")
    colours = "popularity in train" if grouping.is_ordered else f"of the most common {by}, the rarest that the item has"
    caption = (
        f"Directions of the embeddings of the {len(item_map.points):,} most popular items, laid out by t-SNE: "
        f"neighbours are alike, far distances say little. Colours: {colours}. Point at an item for its title."
    )
    return Plot(f"items_by_{file_name(grouping.column)}", f"Items by {by}", caption, figure, titles)
