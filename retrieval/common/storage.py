"""Writes files so that a reader, or a crash, sees the old file or the new one, whole; hashes files."""

from __future__ import annotations

import hashlib
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a text file so that a reader, or a crash, sees the old file or the new one, whole."""
    write_chunks(path, [text.encode()])


def write_chunks(path: pathlib.Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Writes a file of bytes atomically, one chunk after the other."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with scratch.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise


def sync_folder(folder: pathlib.Path) -> None:
    """Waits until the names in a folder, or the content of a file, are on disk.

    A power cut after this call loses nothing that was written before it.
    """
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


def read_json(path: pathlib.Path, most_bytes: int) -> Any:
    """Returns the content of a JSON file, which is not read where it is too large.

    Raises:
      ValueError: the file has more than `most_bytes` bytes, or is not JSON in UTF-8.
      RecursionError: its values are nested too deeply.
      OSError: the file cannot be read.
    """
    if (size := path.stat().st_size) > most_bytes:
        raise ValueError(f"{size} bytes, above the limit of {most_bytes}")
    return json.loads(path.read_text(encoding="utf-8"))


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
