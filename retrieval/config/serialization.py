"""Reads and writes configurations as JSON, and compares them."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any

from retrieval.config.fields import type_hints
from retrieval.config.schema import Config
from retrieval.config.values import check_values, described

SHOWN = 8  # fields that an error lists


def to_json(config: Config) -> str:
    """Returns the config as JSON text, one field in a line."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str) -> Config:
    """Reads the text that `to_json` wrote; all fields are expected.

    Raises:
      ValueError: the text is of another version of the schema, which the message names with its fields, or a value is
        wrong, see `values.check_values`.
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError(f"a config must be a JSON object, got {text[:60]!r}")
    unknown, missing = _mismatches(Config, content)
    if unknown or missing:
        raise ValueError(_other_version(unknown, missing))
    config = _section(Config, content, "")
    check_values(config)
    return config


def _other_version(unknown: list[str], missing: list[str]) -> str:
    known = [f"it sets {_listed(unknown)}, which this version does not know"] if unknown else []
    lacking = [f"it lacks {_listed(missing)}"] if missing else []
    return (
        f"the config is of another version of the schema: {', and '.join(known + lacking)}; "
        "use another --workdir, or the version of retrieval that wrote it"
    )


def _listed(paths: list[str]) -> str:
    more = len(paths) - SHOWN
    return ", ".join(paths[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _mismatches(cls: type, content: Mapping[str, Any], prefix: str = "") -> tuple[list[str], list[str]]:
    """Returns the paths in the JSON object that the schema does not know, and those of the schema that it lacks."""
    hints = type_hints(cls)
    unknown = [prefix + name for name in content if name not in hints]
    missing = [prefix + name for name in hints if name not in content]
    for name, hint in hints.items():
        value = content.get(name)
        of_tuple = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else None
        if dataclasses.is_dataclass(hint) and isinstance(value, dict):
            nested = [(hint, value, f"{prefix}{name}.")]
        elif dataclasses.is_dataclass(of_tuple) and isinstance(value, list):
            nested = [(of_tuple, item, f"{prefix}{name}[{i}].") for i, item in enumerate(value) if type(item) is dict]
        else:
            nested = []
        for arguments in nested:
            more_unknown, more_missing = _mismatches(*arguments)
            unknown += more_unknown
            missing += more_missing
    return unknown, missing


def _section(hint: Any, value: Any, path: str) -> Any:
    """Returns JSON objects as sections, and everything else as it is."""
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ValueError(f"{path} must be {described(hint)}, got {value!r}")
        hints = type_hints(hint)
        return hint(**{name: _section(hints[name], value[name], f"{path}.{name}".lstrip(".")) for name in hints})
    if typing.get_origin(hint) is tuple and isinstance(value, list):
        element = typing.get_args(hint)[0]
        return tuple(_section(element, item, f"{path}[{i}]") for i, item in enumerate(value))
    return value


def differences(one: Config, other: Config) -> list[str]:
    """Returns a line "field: value in one, value in other" for each field that differs."""
    of_one, of_other = flatten(dataclasses.asdict(one)), flatten(dataclasses.asdict(other))
    return [
        f"{field}: {of_one.get(field)!r}, {of_other.get(field)!r}"
        for field in sorted(of_one.keys() | of_other.keys())
        if of_one.get(field) != of_other.get(field)
    ]


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested mappings as one, with paths for keys.

    >>> flatten({"train": {"epochs": 3}, "name": "x"})
    {'train.epochs': 3, 'name': 'x'}
    """
    flat = {}
    for key, value in values.items():
        flat.update(flatten(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat
