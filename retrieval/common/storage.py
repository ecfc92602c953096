"""Writes files so that a reader, or a crash, sees the old file or the new one, whole; hashes files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import pathlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from retrieval.common.disk_errors import writing


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a text file so that a reader, or a crash, sees the old file or the new one, whole."""
    write_chunks(path, [text.encode()])


def write_chunks(path: pathlib.Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Writes a file of bytes atomically, one chunk after the other.

    A link stays, and the file that it leads to is replaced. Devices and pipes, as /dev/stdout, are written to.

    Raises:
      DiskError: an OSError; the file cannot be written. What was there before is unchanged.
    """
    with writing(path):
        if path.exists() and not path.is_file():
            return _write_through(path, chunks)
        path = path.resolve() if path.is_symlink() else path
        scratch = path.with_name(f".{path.name}.{os.getpid()}")  # `scratch_files` finds it
        try:
            with scratch.open("wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            os.replace(scratch, path)
        except BaseException:
            with contextlib.suppress(OSError):  # the error to tell is the first
                scratch.unlink(missing_ok=True)
            raise


def _write_through(path: pathlib.Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Writes to a device or a pipe; a folder is refused by the system."""
    with path.open("wb") as file:
        for chunk in chunks:
            file.write(chunk)


def scratch_files(folder: pathlib.Path, names: Collection[str] | None) -> list[pathlib.Path]:
    """Returns the files that a killed `write_chunks` left in a folder.

    Args:
      folder: the folder; it may be missing.
      names: of the files that were written; None: any.
    """
    if not folder.is_dir():
        return []
    matches = [(path, re.fullmatch(r"\.(.+)\.[0-9]+", path.name)) for path in sorted(folder.iterdir())]
    return [path for path, match in matches if match and (names is None or match[1] in names) and path.is_file()]


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
    write_atomically(path, json_text(values))


def json_text(values: Mapping[str, Any] | Sequence[Any]) -> str:
    """Returns a mapping or a list as the text that `write_json` writes."""
    return json.dumps(finite(values), indent=2, allow_nan=False) + "\n"


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


def finite(value: Any) -> Any:
    """Returns a JSON value with null in place of numbers that are not finite, which JSON lacks."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
