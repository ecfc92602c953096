"""Replaces, exchanges, locks and pins whole folders: at each instant a complete folder is in place."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator

from retrieval.common.disk_errors import writing
from retrieval.common.storage import sync_folder

SCRATCH_SUFFIX = ".partial"  # of the name of a folder that is being made
_WORKING_FOLDER, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux, which is RENAME_SWAP of macOS


@contextlib.contextmanager
def pinned(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path that leads to this very folder until the block ends, even if another takes its place meanwhile.

    Without /proc, or if the folder cannot be opened, the path is `folder` itself.
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
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds the lock of a folder during the block: one thread or process at a time has it.

    The lock of a killed process is released. On a file system without locks the block starts at once.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # releases the lock


@contextlib.contextmanager
def scratch_folder(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a new, empty folder beside `folder` for what will take its place, and deletes it at the end.

    Those that killed processes left for the same `folder` are deleted first; those of running processes stay.
    """
    with writing(folder), locked(folder.parent):
        for path in abandoned(folder):
            shutil.rmtree(path)
        scratch = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}-", suffix=SCRATCH_SUFFIX))
        descriptor = os.open(scratch, os.O_RDONLY)
        _try_lock(descriptor)
    try:
        yield scratch
    finally:
        os.close(descriptor)
        shutil.rmtree(scratch, ignore_errors=True)


def abandoned(folder: pathlib.Path) -> list[pathlib.Path]:
    """Returns the scratch folders of `folder` that no running process holds."""
    found = []
    form = re.compile(re.escape(f".{folder.name}-") + "[a-z0-9_]{8}" + re.escape(SCRATCH_SUFFIX))
    for path in folder.parent.iterdir():
        if form.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            descriptor = os.open(path, os.O_RDONLY)
            try:
                found += [path] if _try_lock(descriptor) else []
            finally:
                os.close(descriptor)
    return sorted(found)


def _try_lock(descriptor: int) -> bool:
    """Locks an open folder; returns False if another process holds it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True


def sync_tree(folder: pathlib.Path) -> None:
    """Waits until all files in a folder, and their names, are on disk."""
    for path in [folder, *folder.rglob("*")]:
        sync_folder(path)


def replace_folder(new: pathlib.Path, folder: pathlib.Path, keep: pathlib.Path | None = None) -> None:
    """Moves the complete folder `new` to `folder`, replaces an existing one, and returns once that is on disk.

    At each instant `folder` is the old one or the new one, whole: both change places in one step on Linux and macOS;
    on other systems, see `exchange`.

    Args:
      new: the new folder, on the same file system.
      folder: its destination.
      keep: destination of the old folder, where it replaces an existing one; None: the old folder is deleted.

    Raises:
      OSError: a folder cannot be moved; `folder` is then unchanged.
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
    """Exchanges two files or folders of one file system, in one step on Linux and macOS.

    Other systems need three steps: an error undoes them, and a crash between them leaves `second` as `.{name}.old`.

    Raises:
      OSError: one of them is missing or cannot be moved; both are then unchanged.
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
    """Exchanges by one system call, renameat2 of Linux or renamex_np of macOS; returns False if the system has none."""
    library, names = ctypes.CDLL(None, use_errno=True), [os.fsencode(path) for path in (first, second)]
    if hasattr(library, "renameat2"):
        failed = library.renameat2(_WORKING_FOLDER, names[0], _WORKING_FOLDER, names[1], _EXCHANGE)
    elif hasattr(library, "renamex_np"):
        failed = library.renamex_np(*names, _EXCHANGE)
    else:
        return False
    if failed and (code := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        raise OSError(code, os.strerror(code), str(first), None, str(second))
    return not failed
