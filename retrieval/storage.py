"""Writing files and folders so that a crash loses nothing, and telling whether they changed."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pathlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a text file so that a reader, or a crash, sees the old one or the new one whole."""
    write_chunks(path, [text.encode()])


def write_chunks(path: pathlib.Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Writes a file of bytes, one chunk after the other, as atomically."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with scratch.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def sync_folder(folder: pathlib.Path) -> None:
    """Waits until the names in a folder are on disk: what is removed after it is not missed after a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: pathlib.Path, values: Mapping[str, Any] | Sequence[Any]) -> None:
    """Writes a mapping or a list as JSON, atomically; numbers that are not finite, which JSON lacks, become null."""
    write_atomically(path, json.dumps(_finite(values), indent=2, allow_nan=False) + "\n")


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


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
