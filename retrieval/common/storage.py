"""Writing files and folders so that a crash loses nothing, and telling whether they changed."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import json
import math
import os
import pathlib
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Shaped

_HEADER = re.compile(  # as `np.save` writes it
    rb"\{'descr': '([|<][iufb][1248])', 'fortran_order': False, 'shape': \(((?:\d{1,19}(?:,|, \d{1,19})*)?)\), \} *\n"
)
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux, which is RENAME_SWAP of macOS


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a text file so that a reader, or a crash, sees the old one or the new one whole."""
    write_chunks(path, [text.encode()])


def write_chunks(path: pathlib.Path, chunks: Iterable[bytes | memoryview]) -> None:
    """Writes a file of bytes, one chunk after the other, as atomically."""
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
    """Waits until the names in a folder are on disk: what is removed after it is not missed after a power cut.

    Of a file it waits for the content.
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


@contextlib.contextmanager
def held(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path that leads to this very folder until the end, whatever is put in its place meanwhile.

    Where there is no /proc, or the folder cannot be opened, it is the path itself.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield folder
        return
    try:
        place = pathlib.Path(f"/proc/self/fd/{descriptor}")
        yield place if place.exists() else folder
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def alone(folder: pathlib.Path) -> Iterator[None]:
    """Waits until no other thread or process is in such a block for the folder; one that is killed is not.

    Where the file system has no locks, nobody is waited for.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which unlocks it


def sync_tree(folder: pathlib.Path) -> None:
    """Waits until all files in a folder, and their names, are on disk."""
    for path in [folder, *folder.rglob("*")]:
        sync_folder(path)


def replace_folder(new: pathlib.Path, folder: pathlib.Path, keep: pathlib.Path | None = None) -> None:
    """Moves the complete folder `new` to `folder`, in place of one that is there, and returns once that is on disk.

    At each instant a whole folder is there, the old one or the new: the two change places in one step where the system
    can do that (Linux, macOS); elsewhere, see `exchange`.

    Args:
      new: the folder, on the same file system.
      folder: where it goes.
      keep: where the old folder goes, in place of one that is there; None: it is deleted.

    Raises:
      OSError: a folder cannot be moved; `folder` is then what it was.
    """
    sync_tree(new)
    if not folder.exists():
        new.rename(folder)
        sync_folder(folder.parent)
        return
    exchange(new, folder)  # `new` is the old folder from here on
    sync_folder(folder.parent)
    if keep is not None and keep.exists():
        exchange(new, keep)
    elif keep is not None:
        new.rename(keep)
        return
    shutil.rmtree(new)


def exchange(first: pathlib.Path, second: pathlib.Path) -> None:
    """Lets two files or folders of one file system change places, in one step where the system can do that.

    Elsewhere it takes three: an error undoes them, and a crash between them leaves `second` beside, as `.{name}.old`.

    Raises:
      OSError: one of them is missing or cannot be moved; both are then where they were.
    """
    if _exchange_at_once(first, second):
        return
    aside = second.with_name(f".{second.name}.old")
    second.rename(aside)
    try:
        first.rename(second)
    except OSError:
        aside.rename(second)
        raise
    aside.rename(first)


def _exchange_at_once(first: pathlib.Path, second: pathlib.Path) -> bool:
    """Exchanges as the kernel does, renameat2 of Linux or renamex_np of macOS; False: there is no such thing here."""
    library, names = ctypes.CDLL(None, use_errno=True), [os.fsencode(path) for path in (first, second)]
    if hasattr(library, "renameat2"):
        failed = library.renameat2(_HERE, names[0], _HERE, names[1], _EXCHANGE)
    elif hasattr(library, "renamex_np"):
        failed = library.renamex_np(*names, _EXCHANGE)
    else:
        return False
    if failed and (code := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(code, os.strerror(code), str(first), None, str(second))
    return not failed


def to_array(content: bytes | memoryview) -> Shaped[np.ndarray, "..."]:
    """Returns the array of numbers that `np.save` wrote, read-only; its bytes are those of `content`.

    NumPy's own reader parses the header as Python, which in CPython 3.11 fails at times where several threads do so at
    once (python/cpython#106905), and takes what this refuses: objects, other orders of the axes, bytes too few or many.

    Raises:
      ValueError: the bytes are not such an array, or not as many as their header says.
    """
    start = 10 + int.from_bytes(content[8:10], "little")
    header = _HEADER.fullmatch(bytes(content[10:start]))
    if bytes(content[:8]) != b"\x93NUMPY\x01\x00" or not header:
        raise ValueError("not an array of numbers in rows in the .npy format, version 1.0")
    try:
        dtype = np.dtype(header[1].decode())
    except TypeError as error:
        raise ValueError(str(error)) from None
    shape = tuple(map(int, re.findall(rb"\d+", header[2])))
    count = math.prod(shape)
    if count * dtype.itemsize != len(content) - start:
        raise ValueError(f"the header tells of {dtype} {shape}, and {len(content) - start} bytes follow")
    return np.frombuffer(content, dtype, count, start).reshape(shape)


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
