"""Checks names against the known ones; errors list the known names and suggest the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns "; did you mean ...?" with the nearest of `names`, or "" if none is near.

    >>> did_you_mean("epoch", ["epochs", "seed"])
    "; did you mean 'epochs'?"
    """
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_choice(what: str, name: Any, names: Iterable[str]) -> None:
    """Checks that `name`, the value of `what`, is one of `names`.

    Raises:
      ValueError: it is not; the error lists `names` and suggests the nearest.

    >>> check_choice("combiner", "maen", ["mean", "sum"])
    Traceback (most recent call last):
    ValueError: combiner must be one of 'mean', 'sum', got 'maen'; did you mean 'mean'?
    """
    names = list(names)
    if name not in names:
        raise ValueError(
            f"{what} must be one of {', '.join(map(repr, names))}, got {name!r}{did_you_mean(str(name), names)}"
        )
