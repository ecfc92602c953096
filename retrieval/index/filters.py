"""Filters by attribute and by id, compiled to a subset of the corpus; no function is called for each candidate."""

from __future__ import annotations

import copy
import dataclasses
import functools
import numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64, Shaped

from retrieval.common.choices import did_you_mean
from retrieval.data.ids import as_ids
from retrieval.data.interactions import Table
from retrieval.index.subset import Subset

MOST_KEPT = 16  # compiled filters of a corpus
SEPARATOR = "|"  # of several values in one row

Range = tuple[Any, Any]  # from, to; None is no bound


@dataclasses.dataclass(frozen=True, eq=False)
class Filter:
    """Restricts the candidates: every condition must hold. Filters of the same conditions are equal in any order.

    The values are copied.

    >>> Filter(one_of={"genres": ["Comedy"]}, between={"year": (1990, None)}, deny=[7])
    Filter(one_of={'genres': ['Comedy']}, between={'year': (1990, None)}, allow=None, deny=[7])

    Attributes:
      one_of: by column the values of which a candidate needs one; a text of several, joined by "|", has each.
      between: by column the least and the greatest value, both included; None is no bound. Missing values ("", NaN) are
        outside, whatever the bounds.
      allow: the only candidate ids that may be found; ids outside the corpus are ignored. None: all.
      deny: candidate ids that may not.

    Raises:
      ValueError: values are no list, conditions are no mapping, bounds no pair, one of them NaN or neither text nor a
        number, or ids are no ids.
    """

    one_of: Mapping[str, Sequence] = dataclasses.field(default_factory=dict)
    between: Mapping[str, Range] = dataclasses.field(default_factory=dict)
    allow: Sequence | np.ndarray | None = None
    deny: Sequence | np.ndarray = ()

    def __post_init__(self):
        for what, conditions in {"one_of": self.one_of, "between": self.between}.items():
            if not isinstance(conditions, Mapping):
                raise ValueError(f"{what} must be a mapping by column, got {conditions!r}")
            if not all(isinstance(name, str) for name in conditions):
                raise ValueError(f"{what} must be a mapping by the names of columns, got {list(conditions)}")
        for name, values in self.one_of.items():
            is_list = isinstance(values, Sequence) or (isinstance(values, np.ndarray) and values.ndim > 0)
            if isinstance(values, str | bytes) or not is_list:
                raise ValueError(f"one_of[{name!r}] must be a list of values, got {values!r}")
            _check_values(f"one_of[{name!r}]", values)
        for name, bounds in self.between.items():
            if isinstance(bounds, str) or not isinstance(bounds, Sequence) or len(bounds) != 2:
                raise ValueError(f"between[{name!r}] must be a pair (from, to), got {bounds!r}")
            given = [bound for bound in bounds if bound is not None]
            _check_values(f"between[{name!r}]", given)
            if any(bound != bound for bound in given):
                raise ValueError(f"between[{name!r}] must not be NaN, which nothing compares with, got {bounds!r}")
        if self.allow is not None:
            as_ids(self.allow, "allow")
        as_ids(self.deny, "deny")
        # what was compiled for a filter must stay what the filter says
        object.__setattr__(self, "one_of", {name: copy.copy(values) for name, values in self.one_of.items()})
        object.__setattr__(self, "between", {name: tuple(bounds) for name, bounds in self.between.items()})
        object.__setattr__(self, "allow", copy.copy(self.allow))
        object.__setattr__(self, "deny", copy.copy(self.deny))

    @functools.cached_property
    def _key(self) -> tuple:
        listed = {
            name: frozenset((isinstance(value, str), value) for value in values) for name, values in self.one_of.items()
        }
        ids = [
            None if listed_ids is None else tuple(np.unique(as_ids(listed_ids, "ids")).tolist())
            for listed_ids in (self.allow, self.deny)
        ]
        return (
            frozenset(listed.items()),
            frozenset(self.between.items()),
            *ids,
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)


class Filters:
    """Compiles filters over the candidates of a table, and caches the last ones; safe for several threads.

    >>> table = Table([1, 2, 3], {"genres": np.array(["Comedy|War", "", "War"]), "year": np.array([1990, 1991, 1992])})
    >>> Filters(table).subset(Filter(one_of={"genres": ["War"]}, between={"year": (1991, None)})).positions
    array([2])
    """

    def __init__(self, table: Table):
        self.table = table
        self._attributes = _Attributes(table)
        # not of `self`: filters that refer to themselves are in memory until garbage is collected
        self._compiled = functools.lru_cache(MOST_KEPT)(functools.partial(_compiled, self._attributes))

    def subset(self, wanted: Filter) -> Subset:
        """Returns the subset that a filter leaves: O(n) time, and O(1) for a cached filter.

        Raises:
          ValueError: as `mask`, or it is no `Filter`.
        """
        check_filter(wanted)
        return self._compiled(wanted)

    def mask(self, wanted: Filter) -> Bool[np.ndarray, " n"]:
        """Returns whether the filter leaves each candidate [n].

        Raises:
          ValueError: the table has no such column, or its values do not compare with those of the filter.
        """
        return self._attributes.mask(wanted)


def _compiled(attributes: _Attributes, wanted: Filter) -> Subset:
    return Subset(attributes.mask(wanted))


class _Attributes:
    """The columns of a table, with the distinct texts of the columns that filters have used."""

    def __init__(self, table: Table):
        self.table = table
        self._texts: dict[str, tuple[Shaped[np.ndarray, " v"], Int64[np.ndarray, " n"]]] = {}

    def mask(self, wanted: Filter) -> Bool[np.ndarray, " n"]:
        """See `Filters.mask`."""
        left = np.ones(len(self.table), bool)
        for name, values in wanted.one_of.items():
            left &= self._has_one_of(name, values)
        for name, bounds in wanted.between.items():
            left &= self._is_between(name, *bounds)
        if wanted.allow is not None:
            listed = np.zeros(len(left), bool)
            listed[self._positions(wanted.allow)] = True
            left &= listed
        left[self._positions(wanted.deny)] = False
        return left

    def _positions(self, ids):
        found = self.table.positions(ids)
        return found[found >= 0]

    def _column(self, name: str) -> Shaped[np.ndarray, " n"]:
        if name not in self.table.columns:
            nearest = did_you_mean(name, list(self.table.columns))
            raise ValueError(f"no attribute {name!r} to filter by{nearest}; known are {sorted(self.table.columns)}")
        column = self.table.columns[name]
        if column.ndim != 1:
            raise ValueError(f"attribute {name!r} holds vectors of {column.shape[1]}; filter by another")
        return column

    def _has_one_of(self, name: str, values: Sequence) -> Bool[np.ndarray, " n"]:
        column = self._column(name)
        _check_type(name, column, list(values))
        if column.dtype.kind != "U":
            return np.isin(column, np.asarray(values, column.dtype if len(values) == 0 else None))
        if name not in self._texts:
            self._texts[name] = np.unique(column, return_inverse=True)
        texts, inverse = self._texts[name]
        listed = set(values)
        has = [text in listed or not listed.isdisjoint(text.split(SEPARATOR)) for text in texts.tolist()]
        return np.array(has, bool)[inverse]

    def _is_between(self, name: str, low: Any, high: Any) -> Bool[np.ndarray, " n"]:
        column = self._column(name)
        _check_type(name, column, [bound for bound in (low, high) if bound is not None])
        inside = column != "" if column.dtype.kind == "U" else ~np.isnan(column.astype(np.float64))
        if low is not None:
            inside &= column >= low
        if high is not None:
            inside &= column <= high
        return inside


def check_filter(wanted: Any) -> None:
    """Raises ValueError unless it is a filter."""
    if not isinstance(wanted, Filter):
        raise ValueError(f"filter must be a retrieval.Filter, such as Filter(deny=[7]), got {wanted!r}")


def _check_values(where: str, values: Sequence) -> None:
    for value in values:
        if not isinstance(value, str | numbers.Real | np.number | np.bool_) or isinstance(value, np.complexfloating):
            raise ValueError(f"{where} must hold text or numbers, got {value!r}")


def _check_type(name: str, column: Shaped[np.ndarray, " n"], values: list) -> None:
    for value in values:
        if isinstance(value, str | np.str_) != (column.dtype.kind == "U"):
            held = "text" if column.dtype.kind == "U" else "numbers"
            raise ValueError(f"attribute {name!r} holds {held}, got {value!r} to compare it with")
