"""A folder whose files are listed with their sizes and SHA-256: each file is read once, within bounds, and verified.

The files may be damaged in any way. No file is opened that the list lacks, no more bytes are read than the list says,
and no array is made that is larger than its file. The hashes detect damage, not forgery.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import stat
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Shaped, UInt8

from retrieval.common.npy import parse_npy
from retrieval.common.storage import sha256

_PIECE = 1 << 24  # bytes that one thread reads at a time

Parsed = TypeVar("Parsed")


@dataclasses.dataclass(frozen=True)
class ListedFile:
    """Size in bytes and SHA-256, in hexadecimal, of a file when it was written."""

    size: int
    sha256: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifiedFolder:
    """Reads the listed files of a folder and compares their hashes with the list.

    Attributes:
      folder: path of the folder, as errors name it.
      files: the listed files by name, a path relative to the folder.
      list_name: name of the file that holds the list, as errors name it.
      remedy: advice at the end of each error, e.g. "export the bundle again".
      place: path by which files are read; differs from `folder` where that is pinned, see `folders.pinned`.
      executor: computes the hashes that methods named `later` ask for. None: they are computed at once.
      checked: names of the files whose hashes are known to be right.
    """

    folder: pathlib.Path
    files: Mapping[str, ListedFile]
    list_name: str
    remedy: str
    place: pathlib.Path
    executor: concurrent.futures.Executor | None = None
    checked: set[str] = dataclasses.field(default_factory=set)
    _pending: list[concurrent.futures.Future] = dataclasses.field(default_factory=list)

    def listed(self, name: str) -> ListedFile:
        """Returns the entry of a file.

        Raises:
          ValueError: the list has no such file.
        """
        if name not in self.files:
            raise ValueError(f"{self.folder / self.list_name} lists no {name!r}, which is needed; {self.remedy}")
        return self.files[name]

    def problem(self, name: str) -> str:
        """Returns what is wrong with a listed file: missing, of another size, or no plain file in the folder; or ""."""
        path = self.place / name
        try:
            status = os.lstat(path)
            is_inside = path.parent == self.place or not stat.S_ISLNK(os.lstat(path.parent).st_mode)
        except OSError:
            return f"{self.folder} lacks {name!r}, which its {self.list_name} lists; {self.remedy}"
        if not (stat.S_ISREG(status.st_mode) and is_inside):
            return f"{self.folder / name} is not a plain file in this folder; {self.remedy}"
        return self._size_problem(name, status.st_size)

    def read(self, name: str) -> memoryview:
        """Returns the content of a file, verified.

        Raises:
          ValueError: the list lacks the file, or the file is missing or has changed.
        """
        content = self.read_unverified([name])[name]
        self.check_content(name, content)
        return content

    def text(self, name: str) -> str:
        """Returns the content of a UTF-8 file, verified; raises as `read`."""
        return self.parsed(name, self.read(name), lambda content: str(content, "utf-8"))

    def json(self, name: str) -> Any:
        """Returns the content of a JSON file, verified; raises as `read`."""
        return self.parsed(name, self.text(name), json.loads)

    def array(self, name: str) -> Shaped[np.ndarray, "..."]:
        """Returns the array of a `.npy` file, verified, read-only and without a copy; raises as `read`."""
        return self.parsed(name, self.read(name), parse_npy)

    def array_checked_later(self, name: str) -> Shaped[np.ndarray, "..."]:
        """Returns an array that is unverified until `check_rest` or `wait` returns: do not rely on its values before.

        Raises:
          ValueError: the list lacks the file, or the file is missing or no array.
        """
        content = self.read_unverified([name])[name]
        self.check_content_later(name, content)
        return self.parsed(name, content, parse_npy)

    def read_unverified(
        self, names: Iterable[str], executor: concurrent.futures.Executor | None = None
    ) -> dict[str, memoryview]:
        """Returns the contents of files of the listed sizes, with unverified hashes; O(total size) time.

        Args:
          names: of listed files.
          executor: reads pieces of 16 MiB of all files in parallel. None: the calling thread reads them.

        Raises:
          ValueError: the list lacks a file, or a file is missing or has another size.
        """
        contents: dict[str, UInt8[np.ndarray, " b"]] = {}
        pieces = []
        for name in names:
            try:
                problem = self._size_problem(name, os.stat(self.place / name).st_size)
            except OSError as error:
                raise self._unreadable(name, error) from None
            if problem:
                raise ValueError(problem)
            contents[name] = np.empty(self.files[name].size, np.uint8)
            pieces += [(name, contents[name], start) for start in range(0, len(contents[name]), _PIECE)]
        each = map if executor is None else executor.map
        for _ in each(self._read_piece, *zip(*pieces, strict=True)) if pieces else ():
            pass
        for data in contents.values():
            data.flags.writeable = False
        return {name: memoryview(data) for name, data in contents.items()}

    def parsed(self, name: str, content: Any, parse: Callable[[Any], Parsed]) -> Parsed:
        """Returns what `parse` makes of the content of a file; its ValueError names the file."""
        try:
            return parse(content)
        except ValueError as error:
            raise ValueError(f"{self.folder / name}: {error}; {self.remedy}") from None
        except RecursionError:
            raise ValueError(f"{self.folder / name} is nested too deeply; {self.remedy}") from None

    def check(self, name: str) -> None:
        """Checks the SHA-256 of a file on disk, for content that the caller reads by other means.

        Raises:
          ValueError: the list lacks the file, or the file cannot be read or has changed.
        """
        self.listed(name)
        try:
            found = sha256(self.place / name)
        except OSError as error:
            raise self._unreadable(name, error) from None
        self.compare(name, found)

    def check_content(self, name: str, content: memoryview) -> None:
        """Checks that the content of a file has the listed SHA-256; raises ValueError if not."""
        self.compare(name, hashlib.sha256(content).hexdigest())

    def check_later(self, name: str) -> None:
        """Starts `check` in the executor; raises ValueError at once if the list lacks the file."""
        self.listed(name)
        self._start(self.check, name)

    def check_content_later(self, name: str, content: memoryview) -> None:
        """Starts `check_content` in the executor."""
        self._start(self.check_content, name, content)

    def compare(self, name: str, found: str) -> None:
        """Checks that the SHA-256 of a file, which the caller computed or verified, is the listed one.

        Raises:
          ValueError: it differs, or the list lacks the file.
        """
        expected = self.listed(name).sha256
        if found != expected:
            raise self._changed(name, f"SHA-256 {found[:12]}, expected {expected[:12]}")
        self.checked.add(name)

    def wait(self) -> None:
        """Waits for the checks that were started.

        Raises:
          ValueError: a file has changed; that of the check that was started first.
        """
        for check in self._pending:
            check.result()

    def check_rest(self) -> None:
        """Waits for the checks that were started, and checks all other listed files.

        Raises:
          ValueError: a file has changed.
        """
        self.wait()
        for name in self.files:
            if name not in self.checked:
                self.check(name)

    def _start(self, check: Callable[..., None], *arguments: Any) -> None:
        if self.executor is None:
            check(*arguments)
        else:
            self._pending.append(self.executor.submit(check, *arguments))

    def _read_piece(self, name: str, data: UInt8[np.ndarray, " b"], start: int) -> None:
        """Reads a piece of a file into its place; if the file was truncated meanwhile, its hash will differ."""
        try:
            with (self.place / name).open("rb") as file:
                file.seek(start)
                file.readinto(memoryview(data)[start : start + _PIECE])
        except OSError as error:
            raise self._unreadable(name, error) from None

    def _size_problem(self, name: str, size: int) -> str:
        expected = self.listed(name).size
        return "" if size == expected else str(self._changed(name, f"{size} bytes, expected {expected}"))

    def _changed(self, name: str, difference: str) -> ValueError:
        return ValueError(f"{self.folder / name} has changed since it was written ({difference}); {self.remedy}")

    def _unreadable(self, name: str, error: OSError) -> ValueError:
        return ValueError(f"{self.folder / name} is missing or cannot be read ({error.strerror}); {self.remedy}")
