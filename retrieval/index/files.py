"""The files of an index: a record in JSON, and arrays that it names by their hashes. No pickle, no torn state.

New arrays are written beside the old ones, under names that come from their content, and are on disk before one rename
of the record replaces the old state by the new one; whatever ends a save before that leaves the old one, whole.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import io
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import UInt8

from retrieval.common.storage import alone, sync_folder, to_array, write_chunks, write_json

FORMAT_VERSION = 2
RECORD_FILE = "index.json"
MOST_RECORD_BYTES = 1 << 24
_NAME = re.compile(r"index-[0-9a-f]{16}\.npy")
_PIECE = 1 << 24  # bytes


def save(folder: str | os.PathLike[str], record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    """Writes an index into `folder`, in place of one that is there, whole or not at all; saves wait for each other.

    The record says what "kind" the index is and has its "figures"; JSON can hold it.

    Raises:
      ValueError: the record holds numbers that are not finite.
      OSError: the folder cannot be written; the old index is left as it was.
    """
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    json.dumps(record, allow_nan=False)
    with alone(folder):
        _replace(folder, record, arrays)


def _replace(folder: pathlib.Path, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
    old = {path.name for path in folder.iterdir() if _NAME.fullmatch(path.name)}
    new: set[str] = set()
    entries = {}
    try:
        for name, array in arrays.items():
            entries[name] = _write(folder, array, old, new)
        sync_folder(folder)
        write_json(folder / RECORD_FILE, {"format_version": FORMAT_VERSION, **record, "arrays": entries})
    except BaseException:
        for name in new:
            (folder / name).unlink(missing_ok=True)
        for path in folder.glob(f".index*.{os.getpid()}"):
            path.unlink(missing_ok=True)
        raise
    sync_folder(folder)
    named = {entry["file"] for entry in entries.values()}
    for path in [*folder.glob("index-*.npy"), *folder.glob(".index*")]:  # of the old one, or of a killed save
        if path.name not in named:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def opened(
    folder: str | os.PathLike[str], kind: str | None = None
) -> Iterator[tuple[dict[str, Any], dict[str, np.ndarray]]]:
    """Gives record and arrays of an index to a block, and verifies them meanwhile; leaving the block tells.

    Until then the bytes may be anything: the block checks what must not be, and hands nothing out. An error that it
    raises gives way to that of the damage. The hashes detect damage, not forgery. Another index may be saved in its
    place meanwhile: the block gets one of the two.

    Raises:
      ValueError: a file is missing or damaged, of another format version, or the index is of another kind.
    """
    folder = pathlib.Path(folder)
    cores = os.cpu_count() or 1
    with concurrent.futures.ThreadPoolExecutor(cores) as pool:
        record, contents = _read_whole(folder, kind, pool)
    # the longest last: a hash needs Python between files, which hnswlib holds for as long as it copies
    entries = sorted(record["arrays"].items(), key=lambda item: item[1]["bytes"])
    with concurrent.futures.ThreadPoolExecutor(max(1, cores - 1)) as pool:  # one core is left to the block
        checks = [pool.submit(_verify, folder, entry, contents[name]) for name, entry in entries]
        try:
            yield record, {name: _array(folder, entry, contents[name]) for name, entry in entries}
        finally:
            for check in checks:
                check.result()


def _read_whole(folder: pathlib.Path, kind: str | None, pool: concurrent.futures.Executor):
    """Returns a record and the bytes of its files, of one index: what was replaced meanwhile is read anew."""
    while True:
        state = _state(folder)
        record = read_record(folder)
        if kind is not None and record["kind"] != kind:
            raise ValueError(f"{folder / RECORD_FILE} is of kind {record['kind']!r}, not {kind!r}; load it as that")
        try:
            return record, _read(folder, record["arrays"], pool)
        except ValueError:
            if _state(folder) == state:
                raise


def _state(folder: pathlib.Path) -> tuple[int, int] | None:
    """Returns what is another one after each save; None where there is no record."""
    try:
        found = (folder / RECORD_FILE).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def read_record(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the record of an index, the files that it names unread.

    Raises:
      ValueError: it is missing, no record, or of another format version.
    """
    path = folder / RECORD_FILE
    if not path.is_file():
        raise ValueError(f"{path} is missing; an index is {RECORD_FILE} and the arrays that it names, in one folder")
    try:
        if path.stat().st_size > MOST_RECORD_BYTES:
            raise ValueError(f"{path.stat().st_size} bytes, above {MOST_RECORD_BYTES}")
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version {record['format_version']!r}, not {FORMAT_VERSION}")
        dict(record["figures"])
        for entry in [{"kind": record["kind"]}, *record["arrays"].values()]:
            dict(entry)
        for entry in record["arrays"].values():
            if not _NAME.fullmatch(entry["file"]) or not isinstance(entry["bytes"], int):
                raise ValueError(f"an array in {entry['file']!r} of {entry['bytes']!r} bytes")
            entry["sha256"].encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} must be what this version saves, got {error!r}; save it again") from error
    return record


def digests(folder: pathlib.Path) -> dict[str, tuple[str, str]]:
    """Returns file and SHA-256 of each array of an index, by the array's name; `opened` is what verifies them.

    Raises:
      ValueError: as `read_record`.
    """
    return {name: (entry["file"], entry["sha256"]) for name, entry in read_record(folder)["arrays"].items()}


def _write(folder: pathlib.Path, array: np.ndarray, old: set[str], new: set[str]) -> dict[str, Any]:
    """Writes an array unless it is there, and returns the entry that names it."""
    header = io.BytesIO()
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    data = memoryview(array.reshape(-1).view(np.uint8)) if array.nbytes else memoryview(b"")
    chunks = [header.getvalue(), *(data[start : start + _PIECE] for start in range(0, len(data), _PIECE))]
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    name, size = f"index-{digest.hexdigest()[:16]}.npy", sum(map(len, chunks))
    if not (name in old and _is_whole(folder / name, size, digest.hexdigest())):
        new.update({name} - old)
        write_chunks(folder / name, chunks)
    return {"file": name, "bytes": size, "sha256": digest.hexdigest()}


def _is_whole(path: pathlib.Path, size: int, expected: str) -> bool:
    with path.open("rb") as file:
        return path.stat().st_size == size and hashlib.file_digest(file, "sha256").hexdigest() == expected


def _read(
    folder: pathlib.Path, entries: Mapping[str, Mapping[str, Any]], pool: concurrent.futures.Executor
) -> dict[str, UInt8[np.ndarray, " b"]]:
    """Returns the bytes of files that have the sizes that the record says; all threads of the pool read pieces."""
    contents, pieces = {}, []
    for name, entry in entries.items():
        path = folder / entry["file"]
        try:
            size = path.stat().st_size
        except OSError as error:
            raise _unreadable(path, error) from error
        if size != entry["bytes"]:
            raise ValueError(f"{path} has {size} bytes where {entry['bytes']} were saved; copy the folder again")
        contents[name] = np.empty(size, np.uint8)
        pieces += [(path, contents[name], start) for start in range(0, size, _PIECE)]
    list(pool.map(lambda piece: _read_piece(*piece), pieces))
    for data in contents.values():
        data.flags.writeable = False
    return contents


def _read_piece(path: pathlib.Path, data: UInt8[np.ndarray, " b"], start: int) -> None:
    """Reads a piece of a file into its place; where the file has become shorter meanwhile, its hash will tell."""
    try:
        with path.open("rb") as file:
            file.seek(start)
            file.readinto(memoryview(data)[start : start + _PIECE])
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: pathlib.Path, error: OSError) -> ValueError:
    return ValueError(f"{path} is missing or cannot be read: {error}; copy the folder again")


def _verify(folder: pathlib.Path, entry: Mapping[str, Any], data: UInt8[np.ndarray, " b"]) -> None:
    """Raises ValueError unless what was read has the hash that the record says."""
    found = hashlib.sha256(data).hexdigest()
    if found != entry["sha256"]:
        path = folder / entry["file"]
        raise ValueError(f"{path} has the SHA-256 {found} where {entry['sha256']} was saved; copy the folder again")


def _array(folder: pathlib.Path, entry: Mapping[str, Any], data: UInt8[np.ndarray, " b"]) -> np.ndarray:
    """Returns the array that a file holds."""
    try:
        return to_array(memoryview(data))
    except ValueError as error:
        path = folder / entry["file"]
        raise ValueError(f"{path} must be an array as this version saves it, got {error}; save it again") from error
