"""Writing files and folders so that a crash loses nothing, and telling whether they changed."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterable, Mapping
from typing import Any


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a text file so that a reader, or a crash, sees the old one or the new one whole."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with scratch.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def write_json(path: pathlib.Path, values: Mapping[str, Any]) -> None:
    """Writes a mapping as JSON, atomically."""
    write_atomically(path, json.dumps(values, indent=2) + "\n")


def write_jsonl(path: pathlib.Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, atomically."""
    write_atomically(path, "".join(json.dumps(record) + "\n" for record in records))


def replace_folder(new: pathlib.Path, folder: pathlib.Path) -> None:
    """Moves the complete folder `new` to `folder`, in place of one that is there.

    An error puts the old folder back. A crash between the two renames leaves it beside, as `.{name}.old`.
    """
    old = folder.with_name(f".{folder.name}.old")
    if not folder.exists():
        new.rename(folder)
        return
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old)


def sha256(path: pathlib.Path) -> str:
    """Returns the SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
