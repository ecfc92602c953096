"""Renders pages from templates: one HTML file each that needs no network, in which every text is escaped.

A page is a template beside its module (`report/run.html`, `sweep/sweep.html`, ...) that extends `report/document.html`
and uses the macros of `report/parts.html`. Python passes data: texts, `Cell`s, `HtmlTable`s, `Tile`s and `Plot`s.
"""

from __future__ import annotations

import base64
import hashlib
import pathlib
from typing import Any, NamedTuple

import jinja2
import markupsafe

from ..shared.commands import as_started
from ..shared.labels import metric_label, number
from .palette import css_variables, to_svg

FOLDER = pathlib.Path(__file__).parent
SCRIPT, STYLE = FOLDER / "page.js", FOLDER / "page.css"


class Tile(NamedTuple):
    """A metric to see first.

    Attributes:
      label: what it is.
      value: the number as text.
      notes: lines under it.
    """

    label: str
    value: str
    notes: list[str]


def render(template: str, **values: Any) -> str:
    """Returns the page of a template.

    Args:
      template: its path in `experiments/`, as "report/run.html".
      values: what the template shows; those that it names and does not get raise `jinja2.UndefinedError`.
    """
    return _environment().get_template(template).render(**values)


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER.parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # what is markup already, and holds no text of the data that is not escaped
    environment.globals.update(
        script=markupsafe.Markup(SCRIPT.read_text(encoding="utf-8")),
        style=markupsafe.Markup(STYLE.read_text(encoding="utf-8")),
        colours=markupsafe.Markup(css_variables()),
        policy=markupsafe.Markup(_policy()),
    )
    environment.filters.update(
        svg=lambda plot: markupsafe.Markup(to_svg(plot)),
        metric=metric_label,
        number=number,
        as_started=as_started,
        thousands="{:,}".format,
    )
    return environment


def _policy() -> str:
    """Returns a Content-Security-Policy that allows the page its own script and style, and no network."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.read_bytes()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-{digest}'"
