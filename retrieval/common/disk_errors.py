"""Errors of the disk in words of a user: which file, what happened, and what to do."""

from __future__ import annotations

import contextlib
import errno
import os
import pathlib
from collections.abc import Iterator

REMEDIES = {
    errno.ENOSPC: "free space on the disk, or choose a folder on another one",
    errno.EDQUOT: "free space within the quota, or choose a folder on another disk",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or choose a folder on another disk",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EACCES: "give this user the right to it (chmod, chown), or choose another place",
    errno.EPERM: "give this user the right to it (chmod, chown), or choose another place",
    errno.EROFS: "choose a folder on a file system that can be written",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "close other programs: the system has no more open files",
    errno.ENOENT: "correct the path",
    errno.ENOTDIR: "correct the path: a part of it is a file",
    errno.EISDIR: "correct the path: it is a folder",
    errno.EEXIST: "choose another place, or move what is there",
    errno.EIO: "check the disk: the device fails",
    errno.ESTALE: "check the network drive",
}
UNKNOWN = "check the disk and the path"


class DiskError(OSError):
    """An error of reading or writing that names the file and the remedy; `errno` and `filename` are as in OSError."""

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}"


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[None]:
    """Makes an OSError of the block one that names the file or folder that is written, and what to do.

    Raises:
      DiskError: an OSError; the block raised one.
    """
    try:
        yield
    except DiskError:
        raise
    except OSError as error:
        raise DiskError(error.errno, f"cannot be written: {_reason(error)}", str(path)) from error


def describe(error: OSError) -> str:
    """Returns the message of an OSError with the file, if the error names one, and what to do."""
    if isinstance(error, DiskError) or error.errno is None:
        return str(error)
    paths = " and ".join(str(path) for path in (error.filename, error.filename2) if path is not None)
    return f"{paths or 'a file or the output of the program'}: {_reason(error)}"


def _reason(error: OSError) -> str:
    """Returns what happened, and the remedy; NumPy says by numbers alone that a disk is full."""
    if error.errno is None:
        return f"{error}; {REMEDIES[errno.ENOSPC]}"
    return f"{os.strerror(error.errno)}; {REMEDIES.get(error.errno, UNKNOWN)}"
