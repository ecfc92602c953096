"""MovieLens in its published releases, from a local copy, the cache or GroupLens.

Terms: the data are for research; they may not be redistributed, nor used commercially without permission of
GroupLens. F. M. Harper and J. A. Konstan, "The MovieLens Datasets: History and Context", ACM Transactions
on Interactive Intelligent Systems 5(4), 2015.
"""

from __future__ import annotations

import dataclasses
import lzma
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from retrieval.common.choices import check_choice
from retrieval.common.errors import DataError
from retrieval.config.schema import Data
from retrieval.data.published import movielens_layouts as layouts
from retrieval.data.published.movielens_layouts import MovieLens
from retrieval.data.readers import fetch
from retrieval.data.readers.delimited import require_file

URL = "https://files.grouplens.org/datasets/movielens"
DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    NotImplementedError,
    RuntimeError,
)


@dataclasses.dataclass(frozen=True)
class Release:
    """A release of MovieLens.

    Attributes:
      archive: file name of the archive at GroupLens and in the cache.
      folder: folder inside the archive.
      size: size of the archive in bytes.
      sha256: SHA-256 of the archive, hexadecimal.
      layout: function that reads the files of the folder.
    """

    archive: str
    folder: str
    size: int
    sha256: str
    layout: Callable[[layouts.Files], MovieLens]


# SHA-256 and sizes as in TensorFlow Datasets (url_checksums/movielens.txt); those of 10M and 32M, which it
# lacks, as others published them beside the MD5 that GroupLens gives.
RELEASES = {
    "movielens-100k": Release(
        "ml-100k.zip",
        "ml-100k",
        4_924_029,
        "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
        layouts.hundred_k,
    ),
    "movielens-1m": Release(
        "ml-1m.zip",
        "ml-1m",
        5_917_549,
        "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
        layouts.one_m,
    ),
    "movielens-10m": Release(
        "ml-10m.zip",
        "ml-10M100K",
        65_566_137,
        "813c411ccb6122564edfe752e7f80c4dcc5aa25fa94c93622f6877a7ba252862",
        layouts.ten_m,
    ),
    "movielens-20m": Release(
        "ml-20m.zip",
        "ml-20m",
        198_702_078,
        "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
        layouts.comma_separated,
    ),
    "movielens-25m": Release(
        "ml-25m.zip",
        "ml-25m",
        261_978_986,
        "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa",
        layouts.comma_separated,
    ),
    "movielens-32m": Release(
        "ml-32m.zip",
        "ml-32m",
        238_950_008,
        "e4a68655d7386b8f95f2f2424b2ff975dfdd15ffd59e0d864a14dca43e99d6ee",
        layouts.comma_separated,
    ),
    "movielens-latest-small": Release(
        "ml-latest-small.zip",
        "ml-latest-small",
        978_202,
        "696d65a3dfceac7c45750ad32df2c259311949efec81f0f144fdfb91ebc9e436",
        layouts.comma_separated,
    ),
}
WHEEL = "recbole-1.2.1-py3-none-any.whl"
WHEEL_REQUIREMENT = "recbole==1.2.1"
WHEEL_FOLDER = "recbole/dataset_example/ml-100k"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"


def load(name: str, path: str = "", cache: str = Data.cache, progress: fetch.Progress | None = None) -> MovieLens:
    """Loads a release of MovieLens from a local copy, the cache, or GroupLens.

    If GroupLens cannot be reached, 100K is read from the copy inside RecBole 1.2.1: the same ratings, users and
    movies, with years in place of release dates. The copy that is in the cache is used from then on.

    Args:
      name: key of `RELEASES`. GroupLens replaces latest-small from time to time; here it is the edition of September
        2018 (100,836 ratings), and another edition can be read from `path`.
      path: a local copy, which is not checked: a .zip file, or a folder with the files or the release's folder.
      cache: folder of downloads; every use checks the archive against the pinned SHA-256.
      progress: called while the archive is downloaded.

    Raises:
      ValueError: there is no release of this name.
      DataError: the files cannot be had or are damaged, or a value in them is wrong; the message names file, line,
        column, value and remedy.
    """
    check_choice("MovieLens release", name, RELEASES)
    release, folder = RELEASES[name], Path(cache).expanduser()
    if path:
        return release.layout(_local(Path(path).expanduser(), release.folder))
    archive, wheel = folder / release.archive, folder / WHEEL
    if not archive.exists() and not (name == "movielens-100k" and wheel.exists()):
        _fetch(name, archive, wheel, progress)
    if archive.exists():
        fetch.check(archive, release.sha256)
        return release.layout(_zipped(archive, release.folder))
    fetch.check(wheel, WHEEL_SHA256)
    return layouts.recbole(_zipped(wheel, WHEEL_FOLDER))


def _fetch(name: str, archive: Path, wheel: Path, progress: fetch.Progress | None) -> None:
    """Downloads the archive into the cache, or the wheel for 100K if GroupLens cannot be reached."""
    release = RELEASES[name]
    remedy = f"get a copy of {release.archive} by other means, and pass its path"
    try:
        fetch.download(f"{URL}/{release.archive}", archive, release.size, release.sha256, progress)
    except fetch.Unreachable as error:
        if name != "movielens-100k":
            raise fetch.Unreachable(f"{error}; {remedy}", needed="path") from error
        try:
            fetch.download_wheel(WHEEL_REQUIREMENT, wheel, WHEEL_SHA256)
        except fetch.Unreachable as other:
            raise fetch.Unreachable(f"{error}, and {other}; {remedy}", needed="path") from other


def _local(path: Path, folder: str) -> layouts.Files:
    """Returns a reader of a local copy: an archive, or a folder with the files or with `folder`."""
    if not path.is_dir():
        require_file(path)
        return _zipped(path, folder)
    inside = path / folder if (path / folder).is_dir() else path

    def files(member: str) -> tuple[str, bytes]:
        require_file(inside / member)
        return str(inside / member), (inside / member).read_bytes()

    return files


def _zipped(path: Path, folder: str) -> layouts.Files:
    """Returns a reader of the files in `folder` of an archive, or at its top if the folder is missing."""

    def files(member: str) -> tuple[str, bytes]:
        try:
            with zipfile.ZipFile(path) as archive:
                found = archive.namelist()
                inside = next((name for name in (f"{folder}/{member}", member) if name in found), "")
                if not inside:
                    raise DataError(f"{path} has no {folder}/{member}, got {found[:8]}; use another archive")
                return f"{path}/{inside}", archive.read(inside)
        except DAMAGE as error:
            raise DataError(f"{path} is not a sound .zip file: {error}; restore it") from error

    return files
