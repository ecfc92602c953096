"""A folder that one process works in at a time: a second one is refused, with the id of the first."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pathlib
import platform
from collections.abc import Iterator

from retrieval.common.disk_errors import writing

LOCK_FILE = ".lock"
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}  # of a file system that has none


class FolderInUseError(ValueError):
    """A folder in which another process works; the message names the process."""


@contextlib.contextmanager
def claimed(folder: pathlib.Path, work: str) -> Iterator[None]:
    """Holds a folder for this process while the block runs; its file `.lock` names the process.

    The system releases the lock of a process that ends, killed or not: the file that it leaves is taken over. A folder
    that is missing is made, and removed at the end if nothing was written into it. A file system without locks holds
    nobody off.

    Args:
      folder: the folder.
      work: what the process does there, as a sentence about it goes on: "trains".

    Raises:
      FolderInUseError: a ValueError; another process, or another thread of this one, holds the folder.
      OSError: the folder cannot be written.
    """
    with writing(folder):
        is_new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        file = _locked_file(folder, work)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # the folder may be gone or read-only by now
            (folder / LOCK_FILE).unlink()
        os.close(file)
        if is_new:
            with contextlib.suppress(OSError):  # it is not empty: the usual case
                folder.rmdir()


def _locked_file(folder: pathlib.Path, work: str) -> int:
    """Returns the descriptor of the lock file, locked and naming this process."""
    path = folder / LOCK_FILE
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            _lock(file, folder)
            if _is_file(file, path):  # else its last holder has removed it between the two calls
                os.ftruncate(file, 0)
                os.pwrite(file, f"{os.getpid()} {work}\n{platform.node()}\n".encode(), 0)
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int, folder: pathlib.Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder, _, host = os.pread(file, 300, 0).decode(errors="replace").strip().partition("\n")
        pid, _, work = holder.partition(" ")
        place = f" on {host}" if host not in ("", platform.node()) else ""
        process = "this process" if pid == str(os.getpid()) and not place else "another process"
        raise FolderInUseError(
            f"{process} {work or 'works'} in {folder}, pid {pid or 'unknown'}{place}; wait for it to end, or use "
            "another folder"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise


def _is_file(file: int, path: pathlib.Path) -> bool:
    """Tells whether an open file is the one at a path."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
