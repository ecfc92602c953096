"""The manifest of a bundle: its files with sizes and SHA-256, facts of the export, and a SHA-256 of all that."""

from __future__ import annotations

import dataclasses
import pathlib
import re
from collections.abc import Mapping
from typing import Any

from retrieval.common import manifest as manifest_lib
from retrieval.common.folder_kinds import describe_folder
from retrieval.common.verified_folder import ListedFile, VerifiedFolder
from retrieval.serving.bundle.layout import EXPORTS, QUERY_TOWER, SIGNATURE

FORMAT_VERSION = 4
MANIFEST = "manifest.json"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)?")  # of a file, in one folder at most
REMEDY = "export the bundle again"


def write_manifest(folder: pathlib.Path, facts: Mapping[str, Any]) -> None:
    """Writes the manifest of all files in a folder, with further facts; O(total size) time."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in (MANIFEST, SIGNATURE))
    files = {path.relative_to(folder).as_posix(): manifest_lib.entry_of(path) for path in paths}
    manifest_lib.write_manifest(folder / MANIFEST, {"format_version": FORMAT_VERSION, "files": files, **facts})


def read_manifest(folder: pathlib.Path | str, place: pathlib.Path | None = None) -> dict[str, Any]:
    """Returns the manifest of a bundle, and reads no other file.

    Args:
      folder: the bundle, as errors name it.
      place: another path of it, by which it is read; None: the same.

    Raises:
      ValueError: the folder is no bundle, is of another format version, or the manifest is damaged.
    """
    folder = pathlib.Path(folder)
    path, place = folder / MANIFEST, folder if place is None else place
    file = place / MANIFEST
    if not file.is_file() and (place / QUERY_TOWER).is_file():
        raise ValueError(f"{folder} is no whole bundle: it has no {MANIFEST}; {REMEDY}")
    if not file.is_file() or not (place / QUERY_TOWER).is_file() and (place / "config.json").is_file():
        raise ValueError(f"{folder} is no bundle: it {describe_folder(folder)}; experiments.export writes bundles")
    try:
        manifest = manifest_lib.read_object(file)
        version = manifest["format_version"]
        if version == FORMAT_VERSION:
            manifest = manifest_lib.check_hash(manifest)
            _listed_files(manifest)
            _check_facts(manifest)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); {REMEDY}"[:500]) from None
    if version != FORMAT_VERSION:
        raise ValueError(f"{folder} has bundle format {version}, this version reads {FORMAT_VERSION}; {REMEDY}")
    return manifest


@dataclasses.dataclass(frozen=True, kw_only=True)
class BundleFiles(VerifiedFolder):
    """The files of a bundle whose manifest is sound; `open` makes one.

    Attributes:
      manifest: its content.
    """

    manifest: Mapping[str, Any]

    @classmethod
    def open(cls, folder: pathlib.Path | str, place: pathlib.Path | None = None) -> BundleFiles:
        """Reads the manifest of a bundle, and no other file; arguments and errors as of `read_manifest`."""
        folder, manifest = pathlib.Path(folder), read_manifest(folder, place)
        return cls(
            folder=folder,
            files=_listed_files(manifest),
            list_name=MANIFEST,
            remedy=REMEDY,
            place=folder if place is None else place,
            manifest=manifest,
        )

    def check_names(self) -> None:
        """Checks that the folder has the listed files and no others, each a plain file of its size.

        Raises:
          ValueError: with the first of `problems`.
        """
        for problem in self.problems():
            raise ValueError(problem)

    def problems(self) -> list[str]:
        """Returns a sentence for each file that is missing, not listed, no plain file, or of another size.

        Hidden files do not count, nor do those in `layout.EXPORTS`, which nothing here reads.
        """
        found = [problem for name in self.files if (problem := self.problem(name))]
        present = {path.relative_to(self.place).as_posix() for path in self.place.rglob("*") if not path.is_dir()}
        extra = sorted(name for name in present - set(self.files) - {MANIFEST, SIGNATURE} if not _is_apart(name))
        return found + [f"{self.folder / name} is not listed in {MANIFEST}; remove it, or {REMEDY}" for name in extra]


def _is_apart(name: str) -> bool:
    """Tells whether a file in the folder of a bundle is no part of the bundle: hidden, or an export."""
    folders = name.split("/")
    return folders[0] == EXPORTS or any(part.startswith(".") for part in folders)


def _check_facts(manifest: Mapping[str, Any]) -> None:
    """Raises ValueError unless the facts that are read of a manifest have their types, where they are there."""
    if type(dimension := manifest.get("similarity_dimension")) not in (int, type(None)):
        raise ValueError(f"similarity_dimension must be an integer, got {dimension!r:.80}")
    for name in ("versions", "figures"):
        if not isinstance(found := manifest.get(name, {}), Mapping):
            raise ValueError(f"{name} must be an object, got {found!r:.80}")


def _listed_files(manifest: Mapping[str, Any]) -> dict[str, ListedFile]:
    """Returns the files that a manifest lists.

    Raises:
      ValueError, KeyError, TypeError: an entry is none.
    """
    files = {}
    for name, entry in manifest["files"].items():
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no name of a file in it")
        files[name] = manifest_lib.listed_file(name, entry)
    return files
