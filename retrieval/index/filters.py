"""Filters by attribute and by id, compiled to a subset of the corpus; no function is called for each candidate."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from retrieval.common.choices import did_you_mean
from retrieval.data.columns import Column, distinct_values, is_present, type_of, values_of
from retrieval.data.ids import as_ids
from retrieval.data.interactions import Table
from retrieval.index.subset import Subset

MOST_KEPT = 16  # compiled filters of a corpus

Range = tuple[Any, Any]  # from, to; None is no bound


@dataclasses.dataclass(frozen=True, eq=False)
class Filter:
    """Restricts the candidates: every condition must hold. Filters of the same conditions are equal in any order.

    The values are copied.

    >>> Filter(one_of={"genres": ["Comedy"]}, between={"year": (1990, None)}, deny=[7])
    Filter(one_of={'genres': ['Comedy']}, between={'year': (1990, None)}, allow=None, deny=[7])

    Attributes:
      one_of: by column the values of which a candidate needs one. They have the type of the column: text for text and
        lists of text, True or False for booleans, numbers for integers and floats. A text of several values, joined by
        "|", has each of them and is found whole too; a value of a list is found as it is.
      between: by column the least and the greatest value, both included; None is no bound. Missing values are outside,
        whatever the bounds. Integers are compared exactly, floats in the precision of the column.
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
        listed = {name: frozenset(map(_typed, values)) for name, values in self.one_of.items()}
        ids = [
            None if listed_ids is None else tuple(np.unique(as_ids(listed_ids, "ids")).tolist())
            for listed_ids in (self.allow, self.deny)
        ]
        return (
            frozenset(listed.items()),
            frozenset((name, tuple(map(_typed, bounds))) for name, bounds in self.between.items()),
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

    def __reduce__(self):  # what was compiled stays behind
        return Filters, (self.table,)

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
    """The columns of a table, with the distinct rows of the columns of text that filters have used."""

    def __init__(self, table: Table):
        self.table = table
        self._values: dict[str, tuple[list[list[str]], Int64[np.ndarray, " n"]]] = {}

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

    def _column(self, name: str) -> Column:
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
        if column.dtype.kind not in "UO":
            wanted = [found for value in values for found in _equal_to(name, column, value)]
            values_held = values_of(column)
            return np.isin(values_held, np.array(wanted, values_held.dtype)) & is_present(column)
        if name not in self._values:
            self._values[name] = distinct_values(column)
        distinct, index = self._values[name]
        listed = set(map(str, values))
        has = np.array([not listed.isdisjoint(row) for row in distinct], bool)[index]
        return has | np.isin(column, list(listed)) if column.dtype.kind == "U" else has

    def _is_between(self, name: str, low: Any, high: Any) -> Bool[np.ndarray, " n"]:
        column = self._column(name)
        _check_type(name, column, [bound for bound in (low, high) if bound is not None])
        if type_of(column) in ("booleans", "lists of text"):
            raise ValueError(f"attribute {name!r} holds {type_of(column)}, which have no order; use one_of")
        inside, values = is_present(column), values_of(column)
        if low is not None:
            inside = inside & (values >= _bound(values, low, math.ceil))
        if high is not None:
            inside = inside & (values <= _bound(values, high, math.floor))
        return inside


def _typed(value: Any) -> tuple[bool, bool, Any]:
    """Returns a value that differs from equal ones of another type: True is no 1."""
    return isinstance(value, str), isinstance(value, bool | np.bool_), value


def check_filter(wanted: Any) -> None:
    """Raises ValueError unless it is a filter."""
    if not isinstance(wanted, Filter):
        raise ValueError(f"filter must be a retrieval.Filter, such as Filter(deny=[7]), got {wanted!r}")


def _check_values(where: str, values: Sequence) -> None:
    for value in values:
        if not isinstance(value, str | numbers.Real | np.number | np.bool_) or isinstance(value, np.complexfloating):
            raise ValueError(f"{where} must hold text or numbers, got {value!r}")
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{where} must hold no NUL character, got {value!r}")


def _check_type(name: str, column: Column, values: list) -> None:
    """Raises ValueError unless the values have the type of the column: text, booleans, or numbers."""
    held = type_of(column)
    fits = {"text": str, "lists of text": str, "booleans": bool | np.bool_}.get(held, numbers.Real | np.number)
    for value in values:
        is_boolean = isinstance(value, bool | np.bool_)
        if not isinstance(value, fits) or is_boolean != (held == "booleans"):
            raise ValueError(f"attribute {name!r} holds {held}, got {value!r} to compare it with")


def _equal_to(name: str, column: Column, value: Any) -> list:
    """Returns the value in the type of a column of integers, numbers or booleans; [] if no value there is equal.

    Raises:
      ValueError: the column holds floats, which cannot represent the integer `value`.
    """
    dtype = values_of(column).dtype
    if dtype.kind == "b":
        return [value]
    if dtype.kind == "f":
        rounded = _rounded(value, dtype)
        if isinstance(value, numbers.Integral) and not (math.isfinite(rounded) and int(rounded) == value):
            raise ValueError(f"attribute {name!r} holds {dtype}, which cannot be {value}; make it a column of integers")
        return [rounded]
    is_whole = isinstance(value, numbers.Integral) or (math.isfinite(value) and value == math.floor(value))
    return [int(value)] if is_whole and -(2**63) <= int(value) < 2**63 else []


def _bound(values: Column, bound: Any, to_integer: Callable[[Any], int]) -> Any:
    """Returns a bound to compare with the values of a column: floats do not round integers, nor integers floats."""
    if values.dtype.kind == "U":
        return bound
    if values.dtype.kind == "f":
        return _rounded(bound, values.dtype)
    return bound if not isinstance(bound, numbers.Integral) and math.isinf(bound) else to_integer(bound)


def _rounded(value: Any, dtype: np.dtype) -> np.floating:
    """Returns a number in the precision of a column; infinity beyond its range."""
    try:
        with np.errstate(over="ignore"):
            return dtype.type(value)
    except OverflowError:  # of integers
        return dtype.type(math.copysign(math.inf, 1 if value > 0 else -1))
