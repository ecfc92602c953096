"""Writes and reads the files of an index: a record in JSON, and arrays that the record names by their hashes.

New arrays are written beside the old ones, under names that come from their content, and are on disk before one rename
replaces the old record by the new one. A save that ends before that rename leaves the old index, whole.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from retrieval.common.folders import locked
from retrieval.common.manifest import HASH, check_hash, read_object, write_manifest
from retrieval.common.npy import npy_chunks, parse_npy
from retrieval.common.storage import sha256, sync_folder, write_chunks
from retrieval.common.verified_folder import ListedFile, VerifiedFolder

FORMAT_VERSION = 2
RECORD_FILE = "index.json"
_NAME = re.compile(r"index-[0-9a-f]{16}\.npy")


def save(folder: str | os.PathLike[str], record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an index into `folder`, whole or not at all; an existing index is replaced, and saves run one at a time.

    Args:
      folder: destination; created if it is missing.
      record: values that JSON can hold, with the "kind" of the index and its metrics as "figures".
      arrays: by name.

    Raises:
      ValueError: the record holds numbers that are not finite.
      OSError: the folder cannot be written; the old index is left as it was.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    json.dumps(record, allow_nan=False)
    with locked(folder):
        _replace(folder, record, arrays)


def _replace(folder: pathlib.Path, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes new arrays, replaces the record, and removes unnamed files; an error removes the new arrays."""
    old = {path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)}
    new: set[str] = set()
    entries = {}
    try:
        for name, array in arrays.items():
            entries[name] = _write(folder, array, old, new)
        sync_folder(folder)
        write_manifest(folder / RECORD_FILE, {"format_version": FORMAT_VERSION, **record, "arrays": entries})
    except BaseException:
        for name in new:
            (folder / name).unlink(missing_ok=True)
        for path in folder.glob(f".index*.{os.getpid()}"):
            path.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    named = {entry["file"] for entry in entries.values()}
    for path in [*folder.glob("index-*.npy"), *folder.glob(".index*")]:  # of the old index, or of a killed save
        if path.name not in named:
            path.unlink(missing_ok=True)


def _write(folder: pathlib.Path, array: np.ndarray, old: set[str], new: set[str]) -> dict[str, Any]:
    """Writes an array unless its file exists, and returns the entry that names the file."""
    chunks = list(npy_chunks(array))
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    name, size = f"index-{digest.hexdigest()[:16]}.npy", sum(map(len, chunks))
    path = folder / name
    is_written = name in old and path.stat().st_size == size and sha256(path) == digest.hexdigest()
    if not is_written:
        new.update({name} - old)
        write_chunks(path, chunks)
    return {"file": name, "bytes": size, "sha256": digest.hexdigest()}


@contextlib.contextmanager
def opened(
    folder: str | os.PathLike[str], kind: str | None = None
) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Yields record and arrays of an index to a `with` block, and verifies the arrays while the block runs.

    The arrays are verified only when the block ends: until then any bytes are possible, so the block must check all
    that could crash it, and must not pass anything on. If the arrays are damaged, the error about it replaces an error
    of the block. If another index is saved into the folder meanwhile, the block gets one of the two, whole.

    Raises:
      ValueError: a file is missing or damaged, of another format version, or the index is of another kind.
    """
    folder = pathlib.Path(folder)
    cores = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        record, files, contents = _read_whole(folder, kind, pool)
    with concurrent.futures.ThreadPoolExecutor(max(1, cores - 1)) as pool:  # one core is left to the block
        files = dataclasses.replace(files, executor=pool)
        # The longest last: hnswlib holds the lock of Python while it copies, so that no further hash can start then.
        for name in sorted(contents, key=lambda name: len(contents[name])):
            files.check_content_later(name, contents[name])
        try:
            names = {array: entry["file"] for array, entry in record["arrays"].items()}
            yield record, {array: files.parsed(name, contents[name], parse_npy) for array, name in names.items()}
        finally:
            files.wait()


def _read_whole(
    folder: pathlib.Path, kind: str | None, pool: concurrent.futures.Executor
) -> tuple[dict[str, Any], VerifiedFolder, dict[str, memoryview]]:
    """Reads the record, the files and their unverified contents; again if another index replaced them meanwhile."""
    while True:
        state = _state(folder)
        record = read_record(folder)
        if kind is not None and record["kind"] != kind:
            raise ValueError(f"{folder / RECORD_FILE} is of kind {record['kind']!r}, not {kind!r}; load it as that")
        files = _listed_files(folder, record)
        try:
            return record, files, files.read_unverified(files.files, pool)
        except ValueError:
            if _state(folder) == state:
                raise


def _state(folder: pathlib.Path) -> tuple[int, int] | None:
    """Returns a value that each save changes; None if the record is missing."""
    try:
        found = (folder / RECORD_FILE).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def read_record(folder: pathlib.Path) -> dict[str, Any]:
    """Reads the record of an index, without the files that it names.

    Raises:
      ValueError: the record is missing, damaged, or of another format version.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        raise ValueError(f"{path} is missing; an index is {RECORD_FILE} and the arrays that it names, in one folder")
    try:
        record = read_object(path)
        if record["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version {record['format_version']!r}, not {FORMAT_VERSION}")
        if HASH in record:  # earlier versions wrote none
            record = check_hash(record)
        numbers = isinstance(record["figures"], Mapping) and record["figures"].values()
        if not isinstance(record["kind"], str) or numbers is False or any(type(n) not in (int, float) for n in numbers):
            raise ValueError(f"figures {record['figures']!r:.80} of a kind {record['kind']!r:.80}")
        record["figures"] = {name: float(number) for name, number in record["figures"].items()}
        _listed_files(folder, record)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} must be what this version saves, got {error!r}; save it again") from error
    return record


def _listed_files(folder: pathlib.Path, record: Mapping[str, Any]) -> VerifiedFolder:
    """Returns the files that a record lists; arrays of the same content share a file.

    Raises:
      ValueError, KeyError, TypeError: an entry is not one that `save` writes.
    """
    files: dict[str, ListedFile] = {}
    for entry in record["arrays"].values():
        name, listed = entry["file"], ListedFile(entry["bytes"], entry["sha256"])
        if not _NAME.fullmatch(name) or type(listed.size) is not int or type(listed.sha256) is not str:
            raise ValueError(f"an array in {name!r} of {listed}")
        if files.setdefault(name, listed) != listed:
            raise ValueError(f"two sizes or hashes of {name!r}")
    return VerifiedFolder(
        folder=folder, files=files, list_name=RECORD_FILE, remedy="copy or save the index again", place=folder
    )


def digests(folder: pathlib.Path) -> dict[str, tuple[str, str]]:
    """Returns file and SHA-256 of each array, by its name, as the record has them; only `opened` verifies the content.

    Raises:
      ValueError: as `read_record`.
    """
    return {name: (entry["file"], entry["sha256"]) for name, entry in read_record(folder)["arrays"].items()}
