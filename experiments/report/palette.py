"""Colours of the report, light and dark, and conversion of a plot into PNG files and inline SVG."""

from __future__ import annotations

import dataclasses
import html
import io
import pathlib
import re
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.backends import backend_agg, backend_svg
from matplotlib.figure import Figure

from retrieval.common.storage import write_chunks

COLOURS = {  # role -> (light, dark); plots are drawn in light colours, and the page replaces them by variables
    "paper": ("#ffffff", "#16191e"),
    "ground": ("#f5f6f8", "#0e1013"),
    "ink": ("#1b1f24", "#e7eaee"),
    "muted": ("#5a636e", "#a1abb7"),
    "line": ("#dfe3e8", "#2d333b"),
    "soft": ("#eaf2fb", "#182a40"),
    "model": ("#0a63b5", "#6cb4ff"),
    "vermillion": ("#d0550a", "#f2884b"),
    "green": ("#0a8f69", "#3cc79b"),
    "pink": ("#c0679c", "#e59ac4"),
    "sky": ("#3d9ad6", "#83cdf5"),
    "orange": ("#c28300", "#efb743"),
    "violet": ("#7a5bb5", "#b59aec"),
    "grey": ("#87909b", "#7d8793"),
}
DOTS_PER_INCH = 160  # of the PNGs
UNIT = 1 / 72  # inches; sizes of plots are in points, the unit of the SVG
SETTINGS = {
    "svg.fonttype": "none",  # text stays text, in the font of the page
    "text.parse_math": False,  # a title may hold a dollar sign
    "font.size": 11,
    "text.color": COLOURS["ink"][0],
    "axes.linewidth": 0.8,
}


@dataclasses.dataclass(frozen=True)
class Plot:
    """A drawn figure with its heading and caption.

    Attributes:
      name: of its PNG, e.g. "recall_at_k".
      heading: a few words.
      caption: how to read the plot, and how its values were computed.
      figure: drawn in the light colours.
      titles: texts that the marks of a group show when pointed at, in their order, by the id of the group.
    """

    name: str
    heading: str
    caption: str
    figure: Figure
    titles: Mapping[str, Sequence[str]] = dataclasses.field(default_factory=dict)


def colour(role: str) -> str:
    """Returns the light colour of a role."""
    return COLOURS[role][0]


def css_variables() -> str:
    """Returns CSS that declares a variable for each role, in the colour scheme of the page."""
    return "\n".join(f"  --{role}: light-dark({light}, {dark});" for role, (light, dark) in COLOURS.items())


def write_png(plot: Plot, folder: pathlib.Path) -> None:
    """Writes `{name}.png` into a folder, in the light colours."""
    backend_agg.FigureCanvasAgg(plot.figure)
    options = {"dpi": DOTS_PER_INCH, "facecolor": colour("paper"), "pil_kwargs": {"compress_level": 2}}
    buffer = io.BytesIO()
    _save(plot, buffer, format="png", **options)
    write_chunks(folder / f"{plot.name}.png", [buffer.getbuffer()])


def to_svg(plot: Plot) -> str:
    """Returns a plot as an SVG element, whose colours follow the page and whose marks have titles; deterministic."""
    backend_svg.FigureCanvasSVG(plot.figure)
    buffer = io.StringIO()
    with mpl.rc_context(SETTINGS | {"svg.hashsalt": plot.name}):
        _save(plot, buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    roles = {light: role for role, (light, _) in COLOURS.items()}
    svg = re.sub(r'style="[^"]*"', lambda style: _with_variables(style[0], roles), svg)
    for group, titles in plot.titles.items():
        svg = _with_titles(svg, group, titles)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # ids of groups repeat between plots, and ids of a page must be unique
    view = re.search(r'viewBox="[^"]*"', svg)[0]
    label = html.escape(plot.heading)
    return re.sub(r"<svg.*?>", f'<svg class="plot" role="img" aria-label="{label}" {view}>', svg, count=1, flags=re.S)


def _save(plot: Plot, file: io.BytesIO | io.StringIO, **options: Any) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", "Glyph .* missing from"
        )  # texts may be in any script; the browser has the fonts
        plot.figure.savefig(file, **options)


def _with_variables(style: str, roles: Mapping[str, str]) -> str:
    return re.sub(r"#[0-9a-f]{6}", lambda found: f"var(--{roles[found[0]]})" if found[0] in roles else found[0], style)


def _with_titles(svg: str, group: str, titles: Sequence[str]) -> str:
    """Puts the titles into the marks of the group with this id, in their order."""
    head, start, rest = svg.partition(f'<g id="{group}">')
    waiting = iter(titles)

    def titled(mark: re.Match) -> str:
        if not mark[1] or (title := next(waiting, None)) is None:
            return mark[0]
        return f"{mark[0][:-2].rstrip()}><title>{html.escape(title)}</title></{mark[1]}>"

    return head + start + re.sub(r"<defs>.*?</defs>|<(use|path)\b[^>]*/>", titled, rest, flags=re.DOTALL)
