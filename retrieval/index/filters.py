"""`Filter`: conditions by attribute and id, compiled to a subset of the corpus without a call for each candidate."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64

from retrieval.common.choices import did_you_mean
from retrieval.data.columns import Column, distinct_values, is_present, type_of, values_of
from retrieval.data.ids import as_ids
from retrieval.data.interactions import Table
from retrieval.index.subset import Subset

MOST_KEPT = 16  # compiled filters that a corpus caches

Range = tuple[Any, Any]  # least and greatest value; None: no bound


@dataclasses.dataclass(frozen=True, eq=False)
class Filter:
    """Restricts the candidates of a search to those for which all conditions hold.

    The values are copied. Filters with the same conditions in any order are equal.

    >>> Filter(one_of={"genres": ["Comedy"]}, between={"year": (1990, None)}, deny=[7])
    Filter(one_of={'genres': ['Comedy']}, between={'year': (1990, None)}, allow=None, deny=[7])

    Attributes:
      one_of: for each column, values of which a candidate must have one. They have the type of the column: text for
        text and lists of text, True or False for booleans, numbers for integers and floats. A text that joins several
        values by "|" matches each of them and the whole text; a value in a list matches as it is.
      between: for each column, the least and the greatest value, both included; None: no bound. A missing value is
        never between bounds. Integers are compared exactly, floats in the precision of the column.
      allow: the only candidate ids that may be found; ids outside the corpus are ignored. None: all.
      deny: candidate ids that must not be found.

    Raises:
      ValueError: conditions are not a mapping, values not a list, bounds not a pair in order, a value is NaN or
        neither text nor a number, or `allow` or `deny` is not a list of ids.
    """

    one_of: Mapping[str, Sequence] = dataclasses.field(default_factory=dict)
    between: Mapping[str, Range] = dataclasses.field(default_factory=dict)
    allow: Sequence | np.ndarray | None = None
    deny: Sequence | np.ndarray = ()

    def __post_init__(self):
        for field, conditions in {"one_of": self.one_of, "between": self.between}.items():
            if not isinstance(conditions, Mapping):
                raise ValueError(f"{field} must be a mapping by column, got {conditions!r}")
            if not all(isinstance(name, str) for name in conditions):
                raise ValueError(f"{field} must be a mapping by the names of columns, got {list(conditions)}")
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
            if len(given) == 2 and isinstance(given[0], str) == isinstance(given[1], str) and given[0] > given[1]:
                raise ValueError(f"between[{name!r}] must be (least, greatest), got {bounds!r}")
        if self.allow is not None:
            as_ids(self.allow, "allow")
        as_ids(self.deny, "deny")
        # copies: a compiled filter stays in the cache, so its conditions must not change
        object.__setattr__(self, "one_of", {name: copy.copy(values) for name, values in self.one_of.items()})
        object.__setattr__(self, "between", {name: tuple(bounds) for name, bounds in self.between.items()})
        object.__setattr__(self, "allow", copy.copy(self.allow))
        object.__setattr__(self, "deny", copy.copy(self.deny))

    @functools.cached_property
    def _key(self) -> tuple:
        """The conditions in one hashable value that does not depend on their order."""
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
    """Compiles filters over the candidates of a table and caches the last ones; any number of threads may use it.

    >>> table = Table([1, 2, 3], {"genres": np.array(["Comedy|War", "", "War"]), "year": np.array([1990, 1991, 1992])})
    >>> Filters(table).subset(Filter(one_of={"genres": ["War"]}, between={"year": (1991, None)})).positions
    array([2])
    """

    def __init__(self, table: Table):
        self.table = table
        self._attributes = _Attributes(table)
        # a cache that refers to `self` would keep it in memory until garbage is collected
        self._compiled = functools.lru_cache(MOST_KEPT)(functools.partial(_compile, self._attributes))

    def __reduce__(self):  # compiled filters are not pickled
        return Filters, (self.table,)

    def subset(self, wanted: Filter) -> Subset:
        """Returns the subset of the candidates that pass a filter; O(n) time, O(1) for a cached filter.

        Raises:
          ValueError: as `mask`, or `wanted` is not a `Filter`.
        """
        check_filter(wanted)
        return self._compiled(wanted)

    def mask(self, wanted: Filter) -> Bool[np.ndarray, " n"]:
        """Tells which candidates pass a filter [n]; O(n) time.

        Raises:
          ValueError: the table lacks a column of the filter, or its values have another type than those of the filter.
        """
        return self._attributes.mask(wanted)


def _compile(attributes: _Attributes, wanted: Filter) -> Subset:
    """Makes the subset of the candidates that pass a filter."""
    return Subset(attributes.mask(wanted))


class _Attributes:
    """Evaluates filters over the columns of a table; caches the distinct rows of the text columns that filters used."""

    def __init__(self, table: Table):
        self.table = table
        self._values: dict[str, tuple[list[list[str]], Int64[np.ndarray, " n"]]] = {}

    def mask(self, wanted: Filter) -> Bool[np.ndarray, " n"]:
        """See `Filters.mask`."""
        passed = np.ones(len(self.table), bool)
        for name, values in wanted.one_of.items():
            passed &= self._has_one_of(name, values)
        for name, bounds in wanted.between.items():
            passed &= self._is_between(name, *bounds)
        if wanted.allow is not None:
            listed = np.zeros(len(passed), bool)
            listed[self._positions(wanted.allow)] = True
            passed &= listed
        passed[self._positions(wanted.deny)] = False
        return passed

    def _positions(self, ids: Sequence | np.ndarray) -> Int32[np.ndarray, " m"]:
        """Returns the positions of ids; those outside the corpus are left out."""
        found = self.table.positions(ids)
        return found[found >= 0]

    def _column(self, name: str) -> Column:
        """Returns a column of values.

        Raises:
          ValueError: the table has no such column, or it holds vectors.
        """
        if name not in self.table.columns:
            nearest = did_you_mean(name, list(self.table.columns))
            raise ValueError(f"no attribute {name!r} to filter by{nearest}; known are {sorted(self.table.columns)}")
        column = self.table.columns[name]
        if column.ndim != 1:
            raise ValueError(f"attribute {name!r} holds vectors of {column.shape[1]}; filter by another")
        return column

    def _has_one_of(self, name: str, values: Sequence) -> Bool[np.ndarray, " n"]:
        """Tells which candidates have one of the values; a text column is compared once for each distinct row."""
        column = self._column(name)
        _check_type(name, column, list(values))
        if column.dtype.kind not in "UO":
            wanted = [equal for value in values for equal in _equal_to(name, column, value)]
            column_values = values_of(column)
            return np.isin(column_values, np.array(wanted, column_values.dtype)) & is_present(column)
        if name not in self._values:
            self._values[name] = distinct_values(column)
        distinct, index = self._values[name]
        listed = set(map(str, values))
        has = np.array([not listed.isdisjoint(row) for row in distinct], bool)[index]
        return has | np.isin(column, list(listed)) if column.dtype.kind == "U" else has

    def _is_between(self, name: str, low: Any, high: Any) -> Bool[np.ndarray, " n"]:
        """Tells which candidates have a value between two bounds, both included; None: no bound."""
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
    """Returns the value with marks of its type, so that True and 1, which are equal in Python, differ."""
    return isinstance(value, str), isinstance(value, bool | np.bool_), value


def check_filter(wanted: Any) -> None:
    """Raises ValueError unless `wanted` is a `Filter`."""
    if not isinstance(wanted, Filter):
        raise ValueError(f"filter must be a retrieval.Filter, such as Filter(deny=[7]), got {wanted!r}")


def _check_values(where: str, values: Sequence) -> None:
    """Raises ValueError unless all values are text without NUL, or real numbers."""
    for value in values:
        if not isinstance(value, str | numbers.Real | np.number | np.bool_) or isinstance(value, np.complexfloating):
            raise ValueError(f"{where} must hold text or numbers, got {value!r}")
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{where} must hold no NUL character, got {value!r}")


def _check_type(name: str, column: Column, values: list) -> None:
    """Raises ValueError unless the values have the type of the column: text, booleans, or numbers."""
    expected = type_of(column)
    python_types = {"text": str, "lists of text": str, "booleans": bool | np.bool_}
    python_type = python_types.get(expected, numbers.Real | np.number)
    for value in values:
        is_boolean = isinstance(value, bool | np.bool_)
        if not isinstance(value, python_type) or is_boolean != (expected == "booleans"):
            raise ValueError(f"attribute {name!r} holds {expected}, got {value!r} to compare it with")


def _equal_to(name: str, column: Column, value: Any) -> list:
    """Converts a value to the type of a column of integers, floats or booleans; [] if no such value can be equal.

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
    """Converts a bound to the type of a column: to the precision of floats, to the next integer inside for integers."""
    if values.dtype.kind == "U":
        return bound
    if values.dtype.kind == "f":
        return _rounded(bound, values.dtype)
    return bound if not isinstance(bound, numbers.Integral) and math.isinf(bound) else to_integer(bound)


def _rounded(value: Any, dtype: np.dtype) -> np.floating:
    """Rounds a number to the precision of a column; infinity beyond its range."""
    try:
        with np.errstate(over="ignore"):
            return dtype.type(value)
    except OverflowError:  # raised for large integers
        return dtype.type(math.copysign(math.inf, 1 if value > 0 else -1))
