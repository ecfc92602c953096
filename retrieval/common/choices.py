"""Errors that say which names there are, and the nearest of them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns "; did you mean ...?" with the nearest of `names`, or "" where none is near.

    >>> did_you_mean("epoch", ["epochs", "seed"])
    "; did you mean 'epochs'?"
    """
    close = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def check_choice(what: str, name: str, names: Iterable[str]) -> None:
    """Checks that `name`, the value of `what`, is one of `names`.

    Raises:
      ValueError: it is not.

    >>> check_choice("combiner", "maen", ["mean", "sum"])
    Traceback (most recent call last):
    ValueError: combiner must be one of 'mean', 'sum', got 'maen'; did you mean 'mean'?
    """
    names = list(names)
    if name not in names:
        raise ValueError(
            f"{what} must be one of {', '.join(map(repr, names))}, got {name!r}{did_you_mean(name, names)}"
        )
