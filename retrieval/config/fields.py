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
import typing
from collections.abc import Callable, Sequence
from typing import Any

from retrieval.common.choices import did_you_mean

LARGEST = 2**31 - 1  # the largest int32: what counts, sizes and seeds may be at most
METADATA = "option"  # key of an `Option` among the metadata of a dataclass field


@dataclasses.dataclass(frozen=True)
class Range:
    """An interval of finite numbers, with bounds inside (`least`, `most`) or outside (`above`, `below`) of it.

    >>> str(Range(least=0, below=1)), 0.0 in Range(least=0, below=1), float("nan") in Range(least=0)
    ('0 or more, below 1', True, False)
    """

    least: float | int = -math.inf
    above: float | int = -math.inf
    most: float | int = math.inf
    below: float | int = math.inf

    def __contains__(self, value: float | int) -> bool:
        return math.isfinite(value) and self.least <= value <= self.most and self.above < value < self.below

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

    Values of a neighbouring type become the annotated type on assignment: lists become tuples, whole numbers become
    floats, and NumPy scalars become numbers of Python. `values.check_values` checks everything else.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        hints = type_hints(type(self))
        if name not in hints:
            raise UnknownField(
                f"{type(self).__name__} has no field {name!r}, got {name}={value!r}{did_you_mean(name, hints)}"
            )
        object.__setattr__(self, name, _converted(hints[name], value))


def _converted(hint: Any, value: Any) -> Any:
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(_converted(typing.get_args(hint)[0], element) for element in value)
    if typing.get_origin(hint) is dict and isinstance(value, dict):
        return {key: _converted(typing.get_args(hint)[1], element) for key, element in value.items()}
    if hint is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    return value


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
