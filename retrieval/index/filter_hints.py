"""Why a filter leaves nothing: a value that no candidate has, bounds beyond all values, ids outside of the corpus."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

import numpy as np

from retrieval.common.choices import did_you_mean
from retrieval.data.columns import Column, distinct_values, is_present, values_of
from retrieval.data.interactions import Table
from retrieval.index.filters import Filter, Filters

LOG = logging.getLogger(__name__)
MOST_COMPARED = 20_000  # values of a column among which the nearest is looked for


def tell_unmatched(wanted: Filter, table: Table) -> None:
    """Logs a warning for each condition of a filter that no candidate of a table fulfils; O(n) time.

    A live index calls it when it finds nothing, a search of a corpus once for each filter.
    """
    for hint in unmatched(wanted, table):
        LOG.warning("%s", hint)


def unmatched(wanted: Filter, table: Table) -> list[str]:
    """Returns a sentence for each value, range or list of ids of a filter that no candidate of a table has.

    If there is none and yet no candidate passes the filter, one says that, unless candidates are denied.
    """
    hints: list[str] = []
    for name, values in wanted.one_of.items():
        hints += _values_of_nobody(name, table.columns[name], values)
    for name, bounds in wanted.between.items():
        if not Filters(table).mask(Filter(between={name: bounds})).any():
            hints.append(f"filter: no candidate has {name} {_range(bounds)}{_extent(name, table.columns[name])}")
    if wanted.allow is not None and not (table.positions(wanted.allow) >= 0).any():
        hints.append(f"filter: none of the {len(wanted.allow)} allowed ids is in the corpus")
    if not hints and not len(wanted.deny) and not Filters(table).mask(wanted).any():
        hints.append("filter: each condition holds for some candidates, but all of them together for none")
    return hints


def _values_of_nobody(name: str, column: Column, values: Sequence) -> Iterator[str]:
    """Yields a sentence for each value of `one_of` that no row of a column has, with the nearest one of text."""
    if column.dtype.kind not in "UO":
        for value in values:
            if not (is_present(column) & (values_of(column) == value)).any():
                yield f"filter: no candidate has {name} {value!r}"
        return
    known = {value for row in distinct_values(column)[0] for value in row}
    known |= set(np.unique(column).tolist()) if column.dtype.kind == "U" else set()
    for value in values:
        if str(value) not in known:
            yield f"filter: no candidate has {name} {str(value)!r}{_nearest(str(value), known)}"


def _nearest(value: str, known: set[str]) -> str:
    """Returns the value that differs by upper and lower case alone, or the nearest one, as a question."""
    same = sorted(text for text in known if text.casefold() == value.casefold())
    if same:
        return f"; did you mean {same[0]!r}?"
    return did_you_mean(value, known) if len(known) <= MOST_COMPARED else ""


def _range(bounds: tuple) -> str:
    low, high = bounds
    parts = [f"of at least {low!r}"] * (low is not None) + [f"of at most {high!r}"] * (high is not None)
    return " and ".join(parts)


def _extent(name: str, column: Column) -> str:
    """Returns the least and the greatest value of a column of numbers."""
    values = values_of(column)[is_present(column)]
    if column.dtype.kind in "UO" or not len(values):
        return ""
    return f"; the values are from {values.min().item()!r} to {values.max().item()!r}"
