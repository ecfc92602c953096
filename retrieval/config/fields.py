"""Declares the options of a configuration: default, range or choices, and meaning stand at the field.

    @dataclasses.dataclass
    class Optimizer(Section):
        name: str = choice("adagrad", ("adagrad", "adam"), "Update rule.")
        learning_rate: float = ranged(0.1, "Step size.", above=0)

`retrieval.config.values` checks values against these declarations, `retrieval.config.reference` lists them.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import os
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from retrieval.common.choices import did_you_mean

LARGEST = 2**31 - 1  # the largest int32: what counts and seeds may be at most
MOST_ROWS = 2**28  # of a table: 32 GiB at 32 dimensions
MOST_IN_BATCH = 2**20  # examples or negatives of a step
LARGEST_FLOAT = 3.4028234663852886e38  # the largest float32, in which everything is computed
SHOWN = 200  # characters of a value in a message
METADATA = "option"  # key of an `Option` among the metadata of a dataclass field


@dataclasses.dataclass(frozen=True)
class Range:
    """An interval of float32 numbers, with bounds inside (`least`, `most`) or outside (`above`, `below`) of it.

    >>> str(Range(least=0, below=1)), 0.0 in Range(least=0, below=1), float("nan") in Range(least=0)
    ('0 or more, below 1', True, False)
    """

    least: float | int = -math.inf
    above: float | int = -math.inf
    most: float | int = math.inf
    below: float | int = math.inf

    def __contains__(self, value: float | int) -> bool:
        return abs(value) <= LARGEST_FLOAT and self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        return self.described(0)

    def described(self, value: float | int) -> str:
        """Returns the bounds in words; that every count fits into an int32 is said of a value that does not alone."""
        bounds = (
            (self.above, f"above {self.above:g}"),
            (self.least, f"{self.least:g} or more"),
            (self.below, f"below {self.below:g}"),
            (self.most, f"at most {self.most:,}"),
        )
        limits = [words for bound, words in bounds if math.isfinite(bound) and (bound != LARGEST or value > LARGEST)]
        if LARGEST_FLOAT < abs(value) < math.inf and self.most == math.inf:
            limits.append(f"of size {LARGEST_FLOAT:.2g} at most, as float32 holds it")
        return ", ".join(limits) or "finite"


@dataclasses.dataclass(frozen=True)
class Option:
    """What a field declares beside its type and default.

    Attributes:
      meaning: one line for the reference.
      range: the numbers allowed, for each element of a tuple and each value of a dictionary; None: no numbers.
      choices: the texts allowed; (): any.
    """

    meaning: str = ""
    range: Range | None = None
    choices: tuple[str, ...] = ()


def option(default: Any, meaning: str) -> Any:
    """Declares a field without a range: text, a boolean, or a tuple of sections."""
    return _field(default, Option(meaning))


def ranged(
    default: Any,
    meaning: str,
    *,
    least: float | int = -math.inf,
    above: float | int = -math.inf,
    most: float | int = math.inf,
    below: float | int = math.inf,
) -> Any:
    """Declares a field of numbers, or of a tuple or dictionary of numbers, each within the bounds."""
    return _field(default, Option(meaning, Range(least, above, most, below)))


def choice(default: Any, choices: Sequence[str], meaning: str) -> Any:
    """Declares a field of text, or of a tuple of texts, each one of `choices`."""
    return _field(default, Option(meaning, choices=tuple(choices)))


def section(make: Callable[[], Any], meaning: str) -> Any:
    """Declares a nested section."""
    return dataclasses.field(default_factory=make, metadata={METADATA: Option(meaning)})


def _field(default: Any, declared: Option) -> Any:
    metadata = {METADATA: declared}
    if isinstance(default, dict):  # one of its own for each instance
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


class UnknownField(AttributeError, ValueError):
    """A field was assigned that the section does not have."""


@typing.no_type_check  # a section may hold wrong values until `check_values` names them
class Section:
    """Base of the sections of a configuration: assigning a field that does not exist raises an error.

    Values of a neighbouring type become the annotated type on assignment, see `normalised`. `values.check_values`
    does the same with what was changed in place, and refuses everything else.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        hints = type_hints(type(self))
        if name not in hints:
            raise UnknownField(
                f"{type(self).__name__} has no field {name!r}, got {name}={shown(value)}{did_you_mean(name, hints)}"
            )
        object.__setattr__(self, name, normalised(hints[name], value))


def normalised(hint: Any, value: Any) -> Any:
    """Returns a value as the annotated type, where it means the same; any other value as it is.

    Beside what `plain` does: subclasses of numbers and of text become the plain types of Python; whole numbers that a
    float holds exactly, floats; paths, text.

    >>> normalised(tuple[int, ...], range(3)), normalised(float, 2), normalised(int, 2.0), normalised(bool, "no")
    ((0, 1, 2), 2.0, 2.0, 'no')
    """
    value, container = plain(value), typing.get_origin(hint)
    if container is tuple and isinstance(value, tuple):
        return tuple(normalised(typing.get_args(hint)[0], item) for item in value)
    if container is dict and isinstance(value, Mapping):
        key, element = typing.get_args(hint)
        return {normalised(key, name): normalised(element, item) for name, item in value.items()}
    if hint is str and isinstance(value, str | os.PathLike):
        path = os.fspath(value)
        return str.__str__(path) if isinstance(path, str) else value
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    if hint is float and (not isinstance(value, numbers.Integral) or _is_exact(value)):
        return float(value)
    return int(value) if hint is int and isinstance(value, numbers.Integral) else value


def plain(value: Any) -> Any:
    """Returns scalars of NumPy and JAX as numbers of Python, and their vectors, lists and ranges as tuples.

    >>> import numpy as np
    >>> plain([np.int64(5), np.array([0.5, 1.0])]), plain("text")
    ((5, (0.5, 1.0)), 'text')
    """
    if (dimensions := getattr(value, "ndim", None)) in (0, 1):
        value = value.item() if dimensions == 0 else value.tolist()
    return tuple(map(plain, value)) if isinstance(value, list | tuple | range) else value


def _is_exact(value: numbers.Integral) -> bool:
    """Tells whether a float holds a whole number without rounding."""
    try:
        return int(float(value)) == int(value)
    except OverflowError:
        return False


def shown(value: Any) -> str:
    """Returns a value for a message, cut where it is long.

    >>> len(shown("a" * 999)), shown(10**9999)
    (206, 'int (too long to show)')
    """
    try:
        text = repr(value)
    except ValueError:  # Python writes out no number of more than 4,300 digits
        return f"{type(value).__name__} (too long to show)"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]} (cut)"


@functools.cache
def type_hints(cls: type) -> dict[str, Any]:
    """Returns the annotated type of each field of a section, by name."""
    return {field.name: field.type for field in dataclasses.fields(cls)}


@functools.cache
def options(cls: type) -> dict[str, Option]:
    """Returns the declaration of each field of a section, by name."""
    return {field.name: field.metadata[METADATA] for field in dataclasses.fields(cls)}


def field_types(cls: type, prefix: str = "") -> dict[str, Any]:
    """Returns the type of each settable field by its path, as "train.epochs"; nested sections are descended into."""
    types = {}
    for name, hint in type_hints(cls).items():
        if dataclasses.is_dataclass(hint):
            types |= field_types(hint, f"{prefix}{name}.")
        else:
            types[prefix + name] = hint
    return types


def check_field(cls: type, path: str) -> None:
    """Checks that `path`, as "train.epochs", is a field of the configuration, or a key of a field of dictionaries.

    Raises:
      ValueError: it is neither; the message names the nearest field.
    """
    fields = field_types(cls)
    if path in fields or typing.get_origin(fields.get(path.rpartition(".")[0])) is dict:
        return
    leaf = path.rpartition(".")[2]
    same_name = next((f"; did you mean {field!r}?" for field in fields if field.rpartition(".")[2] == leaf), "")
    raise ValueError(f"the config has no field {path!r}{same_name or did_you_mean(path, fields)}")
