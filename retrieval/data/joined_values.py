"""Several values in one text, joined by "|": the one place that joins and divides them."""

from __future__ import annotations

import re
from collections.abc import Iterable

SEPARATOR, ESCAPE = "|", "\\"
_TOKEN = re.compile(r"\\.|.", re.DOTALL)  # a backslash and the character that it makes literal, or one character
_MARKED = re.compile(r"[\\|]|\A\s|\s\Z")  # what a joined value marks by a backslash


def join_values(values: Iterable[str]) -> str:
    r"""Joins values by "|"; "|" and backslashes in a value, and blanks at its ends, get a backslash before them.

    >>> join_values(["War", "a|b"])
    'War|a\\|b'
    >>> split_values(join_values(["War", "a|b", " x"]))
    ['War', 'a|b', ' x']
    """
    escaped = [_MARKED.sub(r"\\\g<0>", value) for value in values]
    return " " if escaped == [""] else SEPARATOR.join(escaped)  # "" has no value, a blank one that is empty


def split_values(text: str) -> list[str]:
    r"""Divides a text at each "|" that has no backslash before it; blanks around a value are stripped.

    A backslash before "|", a backslash or a blank is taken away and makes that character part of the value. Any other
    backslash is part of the value itself. The empty text has no value.

    >>> split_values("War| Drama"), split_values(r"a\|b|C:\dir"), split_values("")
    (['War', 'Drama'], ['a|b', 'C:\\dir'], [])
    """
    if ESCAPE not in text:
        return [part.strip() for part in text.split(SEPARATOR)] if text else []
    parts: list[list[str]] = [[]]
    for token in _TOKEN.findall(text):
        if token == SEPARATOR:
            parts.append([])
        else:
            parts[-1].append(token)
    return ["".join(map(_literal, _stripped(tokens))) for tokens in parts]


def _stripped(tokens: list[str]) -> list[str]:
    """Drops blanks at both ends; an escaped blank is a token of two characters and stays."""
    first, last = 0, len(tokens)
    while first < last and tokens[first].isspace():
        first += 1
    while first < last and tokens[last - 1].isspace():
        last -= 1
    return tokens[first:last]


def _literal(token: str) -> str:
    is_escape = len(token) == 2 and (token[1] in (SEPARATOR, ESCAPE) or token[1].isspace())
    return token[1] if is_escape else token
