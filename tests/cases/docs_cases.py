"""The pages of the documentation, and their code blocks."""

from __future__ import annotations

import pathlib
import re
import shlex
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).parents[2]
PAGES = {"README.md": ROOT / "README.md"} | {path.name: path for path in sorted((ROOT / "docs").glob("*.md"))}
GENERATED = ("config.md",)


def text_of(page: str) -> str:
    """Returns the Markdown of a page."""
    return PAGES[page].read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    """Returns the code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """Yields the words of each `python -m experiments.PROGRAM` command, from the program on."""
    for block in blocks(text, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            for command in line.split("&&"):
                words = shlex.split(command, comments=True)
                if words[:2] == ["python", "-m"] and words[2].startswith("experiments."):
                    yield words[2:]
