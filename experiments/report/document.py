"""What pages share: one HTML file that needs no network, with sections, key figures and plots in cards."""

from __future__ import annotations

import base64
import hashlib
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from experiments.report.palette import Plot, css_variables, to_svg

FOLDER = pathlib.Path(__file__).parent
SCRIPT, STYLE = FOLDER / "page.js", FOLDER / "page.css"


def document(title: str, subtitle: str, top: str, sections: Mapping[str, tuple[str, str]]) -> str:
    """Returns a page.

    Args:
      title: a text.
      subtitle: a text.
      top: HTML above the sections.
      sections: by identifier, the heading of each and its HTML.
    """
    links = "".join(f'<a href="#{name}">{heading}</a>' for name, (heading, _) in sections.items())
    body = "\n".join(
        f'<section id="{name}"><h2>{heading}</h2>\n{content}</section>' for name, (heading, content) in sections.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_policy()}">
<title>{escape(title)} · retrieval</title>
<link rel="icon" href="data:,">
<style>
:root {{
{css_variables()}
}}
{STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<div><h1>{escape(title)}</h1>
<p class="quiet">{escape(subtitle)}</p></div>
<button id="theme" type="button">Light or dark</button>
</header>
<nav aria-label="Sections">{links}</nav>
<main>
{top}
{body}
</main>
<script>{SCRIPT.read_text(encoding="utf-8")}</script>
</body>
</html>
"""


def _policy() -> str:
    """Returns the policy that forbids the page all but its own script and style, and any network."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.read_bytes()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"


def key_figures(tiles: Iterable[tuple[str, str, Sequence[str]]]) -> str:
    """Returns figures to see first: of each its label, the figure, and notes under it."""
    return '<div class="tiles">' + "".join(_tile(*tile) for tile in tiles) + "</div>"


def _tile(label: str, value: str, notes: Sequence[str]) -> str:
    lines = "".join(f"<span>{escape(note)}</span>" for note in notes)
    return f'<div class="tile"><p>{escape(label)}</p><strong>{escape(value)}</strong>{lines}</div>'


def figures(plots: Sequence[Plot]) -> str:
    """Returns plots as a grid of cards; nothing where there are none."""
    return f'<div class="grid">{cards(plots)}</div>' if plots else ""


def cards(plots: Sequence[Plot]) -> str:
    """Returns a card for each plot, with its heading and caption."""
    return "\n".join(
        f'<figure class="card" id="{escape(plot.name)}"><h3>{escape(plot.heading)}</h3>\n{to_svg(plot)}\n'
        f"{f'<figcaption>{escape(plot.caption)}</figcaption>' if plot.caption else ''}</figure>"
        for plot in plots
    )
