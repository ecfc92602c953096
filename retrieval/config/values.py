"""The one check of values against the schema, whether they come from Python, from the shell or from a file."""

from __future__ import annotations

import ast
import dataclasses
import re
import typing
from typing import Any

from retrieval.common.choices import did_you_mean
from retrieval.config.fields import Option, options, shown, type_hints

WORDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}
PLURALS = {int: "whole numbers", float: "numbers", str: "texts"}
UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")  # no line, no terminal and no UTF-8 file holds them
BOOLEANS = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}  # as absl reads them


def check_values(section: Any, path: str = "") -> None:
    """Checks the type, range and choices of each field of a section and of the sections in it.

    Values of a neighbouring type that were put into a dictionary become that of the field, see `fields.normalised`.

    >>> from retrieval.config.schema import Config
    >>> config = Config()
    >>> config.optimizer.learning_rate = -1.0
    >>> check_values(config)
    Traceback (most recent call last):
    ValueError: optimizer.learning_rate must be above 0, got -1.0

    Args:
      section: a `Config`, or a section of one.
      path: of the section in the config; "" for the config itself.

    Raises:
      ValueError: a value is wrong; the message names the path of its field, the value and what is allowed.
    """
    declared = options(type(section))
    for name, hint in type_hints(type(section)).items():
        setattr(section, name, getattr(section, name))  # normalises it
        _check(getattr(section, name), hint, declared[name], f"{path}.{name}" if path else name)


def _check(value: Any, hint: Any, declared: Option, path: str) -> None:
    container = typing.get_origin(hint)
    if container in (tuple, dict):
        if not isinstance(value, container):
            raise ValueError(f"{path} must be {described(hint)}, got {shown(value)}")
        element = typing.get_args(hint)[-1 if container is dict else 0]
        for key, item in value.items() if container is dict else enumerate(value):
            if container is dict:
                _check(key, str, Option(), f"the key {shown(key)} of {path}")
            _check(item, element, declared, f"{path}.{key}" if container is dict else f"{path}[{key}]")
    elif type(value) is not hint:
        is_inexact = hint is float and type(value) is int
        why = " that a float holds exactly" if is_inexact else ""
        raise ValueError(f"{path} must be {described(hint)}{why}, got {shown(value)}")
    elif dataclasses.is_dataclass(hint):
        check_values(value, path)
    elif declared.range is not None and value not in declared.range:
        raise ValueError(f"{path} must be {declared.range.described(value)}, got {shown(value)}")
    elif declared.choices and value not in declared.choices:
        names = ", ".join(map(repr, declared.choices))
        raise ValueError(f"{path} must be one of {names}, got {shown(value)}{did_you_mean(value, declared.choices)}")
    elif hint is str and (place := UNWRITABLE.search(value)):
        raise ValueError(f"{path} must be text without control characters, and in Unicode, got {place[0]!r} in it")


def described(hint: Any) -> str:
    """Returns a type in words.

    >>> described(tuple[int, ...]), described(dict[str, float]), described(bool)
    ('a tuple of whole numbers', 'a dictionary of numbers', 'True or False')
    """
    if dataclasses.is_dataclass(hint):
        return f"a section {hint.__name__}"
    container = typing.get_origin(hint)
    if container is None:
        return WORDS[hint]
    element = typing.get_args(hint)[-1 if container is dict else 0]
    plural = f"sections {element.__name__}" if dataclasses.is_dataclass(element) else PLURALS[element]
    return f"a {'dictionary' if container is dict else 'tuple'} of {plural}"


def is_flag(hint: Any) -> bool:
    """Tells whether a flag can set a field of the type, or the values of its keys: all but tuples of sections."""
    return not any(map(dataclasses.is_dataclass, typing.get_args(hint)))


def check_text(hint: Any, text: str, path: str) -> None:
    """Checks that text from the shell can be read as a value of the type.

    >>> check_text(tuple[int, ...], "5,ten", "evaluate.ks")
    Traceback (most recent call last):
    ValueError: evaluate.ks must be a tuple of whole numbers, got '5,ten'

    Raises:
      ValueError: it cannot be read; the message names the path, the text and the type.
    """
    if typing.get_origin(hint) is dict or not is_flag(hint):
        raise ValueError(f"{path} is {described(hint)}, which the config file sets; a flag cannot")
    if not _is_readable(hint, text):
        raise ValueError(f"{path} must be {described(hint)}, got {shown(text) if text else 'nothing'}")


def _is_readable(hint: Any, text: str) -> bool:
    if hint is str:
        return True
    if hint is bool:
        return text.lower() in BOOLEANS
    (element,) = set(typing.get_args(hint)) - {...} or (None,)
    try:
        value = hint(text) if hint in (int, float) else ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return element is str and "," not in text and bool(text)  # one text without quotes is a tuple of one
    return element is None or all(type(item) is element for item in (value if type(value) is tuple else (value,)))
