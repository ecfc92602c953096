"""The search space of a sweep: which fields of a config vary, and between what.

A config file declares it beside `get_config`:

    def get_space() -> Space:
        return {
            "regularization.embedding_l2": LogUniform(0.01, 0.3),
            "model.embedding_dimension": Choice(16, 32, 64),
            "train.batch_size": LogUniform(256, 4096),
        }

A field of whole numbers takes the whole numbers between two whole bounds.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import json
import shlex
from collections.abc import Mapping
from typing import Any

from retrieval.config.fields import check_field, field_types, plain
from retrieval.config.schema import Config
from retrieval.config.values import check_values


@dataclasses.dataclass(frozen=True)
class Uniform:
    """Numbers from `low` to `high`, both included, drawn uniformly."""

    low: float | int
    high: float | int

    def __post_init__(self):
        _make_plain(self)


@dataclasses.dataclass(frozen=True)
class LogUniform:
    """Numbers from `low` to `high`, both included, whose logarithms are drawn uniformly; `low` is above 0."""

    low: float | int
    high: float | int

    def __post_init__(self):
        _make_plain(self)


@dataclasses.dataclass(frozen=True, init=False)
class Choice:
    """One of `values`, which have no order."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any):
        object.__setattr__(self, "values", values)
        _make_plain(self)


def _make_plain(declaration: Any) -> None:
    """Makes scalars of NumPy numbers of Python, and lists tuples, see `fields.plain`: a record holds no others."""
    for field in dataclasses.fields(declaration):
        object.__setattr__(declaration, field.name, plain(getattr(declaration, field.name)))


Declaration = Uniform | LogUniform | Choice
Space = Mapping[str, Declaration]  # by field, as in "train.batch_size"
KINDS = {cls.__name__: cls for cls in (Uniform, LogUniform, Choice)}
FIXED = {  # beginning of the path of fields that no sweep may vary -> reason
    "name": "is a name",
    "data": "decides what is learned from, and figures on different data do not compare",
    "evaluate": "decides what is asked, not what is learned",
    "index": "comes after training",
    "train.evaluate_every": "decides which epochs are looked at",
    "train.metric": "is what settings are compared by",
    "train.refit": "comes after the search",
}


def default_space(config: Config) -> Space:
    """Returns a space around a config: its penalty, if it has one, its learning rate, and its batch size.

    >>> for field, declared in default_space(Config()).items():
    ...     print(field, declared)
    regularization.embedding_l2 LogUniform(low=0.0055, high=0.55)
    optimizer.learning_rate LogUniform(low=0.02, high=0.5)
    train.batch_size Choice(values=(512, 1024, 2048, 4096, 8192))
    """
    penalty, rate = config.regularization.embedding_l2, config.optimizer.learning_rate
    penalties = {"regularization.embedding_l2": LogUniform(penalty / 10, penalty * 10)} if penalty > 0 else {}
    sizes = dict.fromkeys(max(int(config.train.batch_size * factor), 1) for factor in (0.25, 0.5, 1, 2, 4))
    return penalties | {"optimizer.learning_rate": LogUniform(rate / 5, rate * 5), "train.batch_size": Choice(*sizes)}


def check_space(space: Any, config: Config) -> None:
    """Checks that `space` is one, that its fields may vary, and that the config can hold all their values, in range.

    Raises:
      ValueError: it cannot; the message names the field.
    """
    if not isinstance(space, Mapping) or not space:
        raise ValueError(f"a search space is a dictionary from fields to {', '.join(KINDS)}, got {space!r}")
    for field, declared in space.items():
        check_field(Config, field)
        for prefix, reason in FIXED.items():
            if f"{field}.".startswith(f"{prefix}."):
                raise ValueError(f"{field} cannot vary in a sweep: it {reason}")
        if not isinstance(declared, Declaration):
            raise ValueError(f"{field} must vary by one of {', '.join(KINDS)}, got {declared!r}")
        _check_values(field, declared)
        for value in _arguments(declared):
            check_values(with_settings(config, {field: value}))


def _check_values(field: str, declared: Declaration) -> None:
    if isinstance(declared, Choice):
        if not _is_plain(declared.values):
            raise ValueError(
                f"{field} must have a choice of texts, numbers, booleans or tuples of them, got {declared!r}"
            )
        if len(set(declared.values)) < max(len(declared.values), 2):
            raise ValueError(f"{field} must have a choice of two different values or more, got {declared!r}")
        return
    if isinstance(declared.low, bool) or not isinstance(declared.low, float | int):
        raise ValueError(f"{field} must lie between numbers, got {declared!r}")
    least = 0 if isinstance(declared, LogUniform) else -float("inf")
    if not least < declared.low < declared.high < float("inf"):
        below = "0 < low" if least == 0 else "low"
        raise ValueError(f"{field} must have finite bounds with {below} < high, got {declared!r}")


def _is_plain(value: Any) -> bool:
    return all(map(_is_plain, value)) if isinstance(value, tuple) else isinstance(value, str | int | float)


def is_whole(field: str) -> bool:
    """Tells whether a field takes whole numbers."""
    return field_types(Config).get(field) is int


def value_of(config: Config, field: str) -> Any:
    """Returns the value of a field.

    Raises:
      ValueError: it is a key of a dictionary that the config does not set.
    """
    try:
        return functools.reduce(_step, field.split("."), config)
    except KeyError:
        raise ValueError(f"{field} is not set: get_config() must set it, so that it can vary") from None


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """Returns a copy of the config with other values of the fields named.

    Raises:
      ValueError: a field is a key of a dictionary that the config does not set.

    >>> with_settings(Config(), {"train.epochs": 3}).train.epochs
    3
    """
    config = copy.deepcopy(config)
    for field, value in settings.items():
        value_of(config, field)
        *path, last = field.split(".")
        section = functools.reduce(_step, path, config)
        if isinstance(section, dict):
            section[last] = value
        else:
            setattr(section, last, value)
    return config


def as_flags(settings: Mapping[str, Any]) -> list[str]:
    """Returns the flags that set these fields, quoted for a shell.

    >>> as_flags({"train.epochs": 3, "model.query.hidden_sizes": (64, 32)})
    ['--config.train.epochs=3', "'--config.model.query.hidden_sizes=(64, 32)'"]
    """
    return [shlex.quote(f"--config.{field}={value}") for field, value in settings.items()]


def to_record(space: Space) -> dict[str, list[Any]]:
    """Returns a space as JSON holds it.

    >>> to_record({"loss.temperature": Uniform(0.5, 2.0)})
    {'loss.temperature': ['Uniform', 0.5, 2.0]}
    """
    record = {field: [type(declared).__name__, *_arguments(declared)] for field, declared in space.items()}
    return json.loads(json.dumps(record))


def _arguments(declared: Declaration) -> tuple[Any, ...]:
    return declared.values if isinstance(declared, Choice) else (declared.low, declared.high)


def from_record(record: Mapping[str, list[Any]]) -> dict[str, Declaration]:
    """Returns the space that `to_record` wrote."""
    return {field: KINDS[kind](*map(_as_tuples, arguments)) for field, (kind, *arguments) in record.items()}


def _as_tuples(value: Any) -> Any:
    return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _step(section: Any, name: str) -> Any:
    return section[name] if isinstance(section, dict) else getattr(section, name)
