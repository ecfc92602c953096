"""The list of a bundle's files with their sizes and hashes, and how files are read: once, verified, in bounds.

What is read here may be damaged in any way. Nothing is opened that the manifest does not list, no name leads out of the
folder, nothing is read that is not as long as it should be, and no array is made that is not in the file.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import pathlib
import re
import stat
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

from retrieval.common.storage import sha256, to_array, write_json
from retrieval.serving.bundle.layout import EXPORTS

FORMAT_VERSION = 4
MANIFEST = "manifest.json"
MOST_OF_MANIFEST = 1 << 24  # bytes
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?")  # of a file, in one folder at most
AGAIN = "export the bundle again"


def write_manifest(folder: pathlib.Path, facts: Mapping[str, Any]) -> None:
    """Writes the manifest of all files in a folder, with what else it records, and the SHA-256 of all that."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST)
    files = {
        path.relative_to(folder).as_posix(): {"size": path.stat().st_size, "sha256": sha256(path)} for path in paths
    }
    path = folder / MANIFEST
    content = {"format_version": FORMAT_VERSION, "files": files, **facts}
    write_json(path, content)  # what JSON cannot say is left out of the hash as it is of the file
    write_json(path, {"sha256": _digest(json.loads(path.read_text(encoding="utf-8"))), **content})


@dataclasses.dataclass(frozen=True)
class Files:
    """The files of a bundle whose manifest is sound.

    Attributes:
      folder: where they lie, as errors say.
      manifest: its content.
      place: where they are read, see `storage.held`.
      checked: names of the files whose hashes are known to be right.
      pool: takes the hashes that are asked for later, while files are read on. None: they are taken at once.
    """

    folder: pathlib.Path
    manifest: Mapping[str, Any]
    place: pathlib.Path
    checked: set[str] = dataclasses.field(default_factory=set)
    pool: concurrent.futures.Executor | None = None
    _pending: dict[str, concurrent.futures.Future] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, folder: pathlib.Path | str, place: pathlib.Path | None = None) -> Files:
        """Reads the manifest of a bundle, and nothing else.

        Args:
          folder: the bundle.
          place: another path of it, by which its files are read; None: the same.

        Raises:
          ValueError: the folder is no bundle, of another format version, or the manifest is damaged.
        """
        folder = pathlib.Path(folder)
        place = folder if place is None else place
        return cls(folder, _read_manifest(folder, place), place)

    def names(self) -> list[str]:
        """Returns the names of the files."""
        return list(self.manifest["files"])

    def check_names(self) -> None:
        """Checks that the files are there, and no others, each a plain file of its size.

        Raises:
          ValueError: one is missing, not listed, no plain file, or of another size.
        """
        for problem in self.problems():
            raise ValueError(problem)

    def problems(self) -> list[str]:
        """Returns what is wrong with the names and the sizes of the files, a sentence for each.

        Files whose names begin with a dot do not count, nor do those in `layout.EXPORTS`, which nothing here reads.
        """
        listed = self.manifest["files"]
        found = [problem for name in listed if (problem := self._problem(name))]
        there = {path.relative_to(self.place).as_posix() for path in self.place.rglob("*") if not path.is_dir()}
        there = {name for name in there if not _is_apart(name)}
        extra = sorted(there - set(listed) - {MANIFEST})
        return found + [f"{self.folder / name} is not listed in {MANIFEST}; remove it, or {AGAIN}" for name in extra]

    def _problem(self, name: str) -> str:
        path = self.place / name
        try:
            status = os.lstat(path)
            inside = path.parent == self.place or not stat.S_ISLNK(os.lstat(path.parent).st_mode)
        except OSError:
            return f"{self.folder} lacks {name!r}, which its {MANIFEST} lists; {AGAIN}"
        if not (stat.S_ISREG(status.st_mode) and inside):
            return f"{self.folder / name} is no plain file of its own in the bundle; {AGAIN}"
        if status.st_size != (size := self.manifest["files"][name]["size"]):
            return (
                f"{self.folder / name} has changed since the export ({status.st_size} bytes, expected {size}); {AGAIN}"
            )
        return ""

    def check(self, name: str) -> None:
        """Checks the SHA-256 of a file that something else will read.

        Raises:
          ValueError: it has changed.
        """
        try:
            found = sha256(self.place / name)
        except OSError as error:
            raise ValueError(f"{self.folder / name} cannot be read: {error.strerror}") from None
        self.compare(name, found)

    def check_later(self, name: str) -> None:
        """Begins to check the SHA-256 of a file that nothing else reads; raises ValueError if it is not listed."""
        self.listed_sha256(name)
        self._later(name, self.check, name)

    def check_rest(self) -> None:
        """Checks the files that nothing has read or checked yet, and waits for all checks.

        Raises:
          ValueError: one has changed.
        """
        for check in self._pending.values():
            check.result()
        for name in self.names():
            if name not in self.checked:
                self.check(name)

    def compare(self, name: str, found: str) -> None:
        """Checks that the SHA-256 of a file, which the caller has found or verified, is the one listed.

        Raises:
          ValueError: it is another one, or the manifest does not list the file.
        """
        expected = self.listed_sha256(name)
        if found != expected:
            raise ValueError(
                f"{self.folder / name} has changed since the export (SHA-256 {found[:12]}, expected {expected[:12]}); "
                f"{AGAIN}"
            )
        self.checked.add(name)

    def read(self, name: str) -> bytes:
        """Returns the content of a file, whose hash is checked in the same pass.

        Raises:
          ValueError: the manifest does not list it, or it has changed.
        """
        content = self._content(name)
        self._compare_content(name, content)
        return content

    def text(self, name: str) -> str:
        """Returns the content of a file of text; raises as `read`."""
        return self._parsed(name, self.read(name), lambda content: content.decode("utf-8"))

    def json(self, name: str) -> Any:
        """Returns the content of a file of JSON; raises as `read`."""
        return self._parsed(name, self.read(name), lambda content: json.loads(content))

    def array(self, name: str) -> Shaped[np.ndarray, "..."]:
        """Returns the array of an .npy file, read-only and without a copy; raises as `read`."""
        return self._parsed(name, self.read(name), to_array)

    def array_checked_later(self, name: str) -> Shaped[np.ndarray, "..."]:
        """Returns an array whose numbers may be any until `check_rest` has returned: nothing may go by them before."""
        content = self._content(name)
        self._later(name, self._compare_content, name, content)
        return self._parsed(name, content, to_array)

    def listed_sha256(self, name: str) -> str:
        """Returns the SHA-256 that the manifest lists for a file; raises ValueError if it lists none."""
        if name not in self.manifest["files"]:
            raise ValueError(f"{self.folder / MANIFEST} lists no {name!r}, which belongs to the bundle; {AGAIN}")
        return self.manifest["files"][name]["sha256"]

    def _content(self, name: str) -> bytes:
        self.listed_sha256(name)
        try:
            return (self.place / name).read_bytes()
        except OSError as error:
            raise ValueError(f"{self.folder / name} cannot be read: {error.strerror}") from None

    def _compare_content(self, name: str, content: bytes) -> None:
        self.compare(name, hashlib.sha256(content).hexdigest())

    def _later(self, name: str, check: Callable, *arguments: Any) -> None:
        if self.pool is None:
            check(*arguments)
        else:
            self._pending[name] = self.pool.submit(check, *arguments)

    def _parsed(self, name, content, parse):
        try:
            return parse(content)
        except ValueError as error:
            raise ValueError(f"{self.folder / name}: {error}") from None
        except RecursionError:
            raise ValueError(f"{self.folder / name} is nested too deeply; {AGAIN}") from None


def _is_apart(name: str) -> bool:
    """Tells whether a file in the folder of a bundle is no part of it: hidden, or an export."""
    folders = name.split("/")
    return folders[0] == EXPORTS or any(part.startswith(".") for part in folders)


def _read_manifest(folder: pathlib.Path, place: pathlib.Path) -> dict[str, Any]:
    """Returns the manifest of a bundle, once it is known to be what `write_manifest` wrote."""
    path, file = folder / MANIFEST, place / MANIFEST
    if not file.is_file():
        raise ValueError(f"{folder} is no bundle: it has no {MANIFEST}; experiments.export writes one")
    if (size := file.stat().st_size) > MOST_OF_MANIFEST:
        raise ValueError(f"{path} is damaged ({size} bytes, {MOST_OF_MANIFEST} at most); {AGAIN}")
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        version = manifest["format_version"]
        if version != FORMAT_VERSION:
            raise _OtherVersion(f"{folder} has bundle format {version}, this version reads {FORMAT_VERSION}; {AGAIN}")
        expected = manifest.pop("sha256")
        if _digest(manifest) != expected:
            raise ValueError("its content has another SHA-256 than it says")
        for name, facts in manifest["files"].items():
            if not NAME.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a file in it")
            if type(facts["size"]) is not int or type(facts["sha256"]) is not str:
                raise ValueError(f"size and SHA-256 of {name!r} are {facts}")
    except _OtherVersion:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); {AGAIN}"[:500]) from None
    return manifest


class _OtherVersion(ValueError):
    """The manifest is of another version of the format."""


def _digest(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of what a manifest says, however it is laid out."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
