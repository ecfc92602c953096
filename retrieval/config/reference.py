"""Renders the schema as the reference of all options, in Markdown."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from retrieval.config.fields import Option, field_types, options, type_hints
from retrieval.config.schema import ADDITIONS, Config
from retrieval.config.users import USERS
from retrieval.config.values import described, is_flag

MANY = 4  # shipped configs that set an option, from which on they are counted


class Entry(NamedTuple):
    """An option of the schema.

    Attributes:
      path: as "train.epochs"; of sections in tuples, the name in the section.
      hint: its type.
      default: its default.
      declared: the rest of its declaration.
    """

    path: str
    hint: Any
    default: Any
    declared: Option


def entries(section: Any, prefix: str = "") -> Iterator[Entry]:
    """Returns the options of a section and of the sections nested in it, in the order of the schema."""
    declared = options(type(section))
    for name, hint in type_hints(type(section)).items():
        value = getattr(section, name)
        if dataclasses.is_dataclass(hint):
            yield from entries(value, f"{prefix}{name}.")
        else:
            yield Entry(prefix + name, hint, value, declared[name])


def listing() -> str:
    """Returns all options that a flag can set as lines for a terminal: path, type, range, default, and the meaning."""
    lines = []
    for entry in entries(Config()):
        if is_flag(entry.hint):
            allowed = _allowed(entry.declared).replace("`", "")
            facts = [described(entry.hint), *([allowed] if allowed else []), f"default {_default(entry.default)}"]
            lines += [f"{entry.path}: {', '.join(facts)}", f"    {entry.declared.meaning}"]
    return "\n".join(lines)


def set_by(experiments: Mapping[str, Config]) -> dict[str, list[str]]:
    """Returns, for each settable path, the names of the experiments that set another value than the default."""

    def value(config: Config, path: str) -> Any:
        return functools.reduce(getattr, path.split("."), config)

    default = Config()
    return {
        path: [name for name, config in experiments.items() if value(config, path) != value(default, path)]
        for path in field_types(Config)
    }


def reference(experiments: Mapping[str, Config]) -> str:
    """Returns tables of all options: type, default, allowed values, meaning and user.

    Args:
      experiments: the shipped configs by name, which are listed as the users of the options that they set.
    """
    users = set_by(experiments)
    every = list(entries(Config()))
    tables = [_table("`name`, `tasks`", Config, [e for e in every if "." not in e.path], users)]
    for name, section in type_hints(Config).items():
        if dataclasses.is_dataclass(section):
            tables.append(_table(f"`{name}`", section, [e for e in every if e.path.startswith(f"{name}.")], users))
    elements: dict[type, list[str]] = {}
    for entry in every:
        if dataclasses.is_dataclass(element := _element(entry.hint)):
            elements.setdefault(element, []).append(f"`{entry.path}`")
    for cls, paths in elements.items():
        tables.append(_table(f"Each of {', '.join(paths)}", cls, list(entries(cls())), None))
    for name, cls in ADDITIONS.items():
        tables.append(_table(f'Arguments of the addition "{name}"', cls, list(entries(cls())), None))
    return "\n".join(tables)


def _table(title: str, cls: type, rows: Sequence[Entry], users: Mapping[str, Sequence[str]] | None) -> str:
    header = ["option", "type", "default", "allowed", "meaning", *(["user"] if users is not None else [])]
    lines = [header, ["---"] * len(header)]
    for entry in rows:
        cells = [
            f"`{entry.path}`",
            described(entry.hint),
            f"`{_default(entry.default)}`",
            _allowed(entry.declared),
            entry.declared.meaning,
        ]
        lines.append(cells if users is None else [*cells, _user(entry, users[entry.path])])
    table = "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
    return f"## {title}\n\n{cls.__doc__}\n\n{table}\n"


def _default(value: Any) -> str:
    """Returns a default as a config file writes it: of sections, the fields that have other values than theirs."""
    if isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        return f"({', '.join(map(_default, value))},)"
    if dataclasses.is_dataclass(value):
        set_fields = [e for e, unset in zip(entries(value), entries(type(value)()), strict=True) if e != unset]
        return f"{type(value).__name__}({', '.join(f'{e.path}={e.default!r}' for e in set_fields)})"
    return repr(value)


def _allowed(declared: Option) -> str:
    if declared.range is not None:
        return str(declared.range)
    return ", ".join(f"`{name}`" if name else "none" for name in declared.choices)


def _user(entry: Entry, names: Sequence[str]) -> str:
    if not names:
        return USERS.get(entry.path, "")
    if len(names) > MANY:
        return f"{len(names)} shipped configs"
    return ", ".join(f"`{name}`" for name in names)


def _element(hint: Any) -> Any:
    """Returns the type of the elements of a tuple; None of another type."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else None
