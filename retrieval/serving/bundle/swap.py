"""A bundle and the one before it: a new one takes the place of the first, and the second comes back on request.

A replacement has two steps, after which the old bundle lies in `previous`. The old bundle carries a hidden file
meanwhile: after a kill between the steps, that file tells where it is, and `recover` ends the replacement.
"""

from __future__ import annotations

import pathlib

from retrieval.common.folders import abandoned, exchange, locked, replace_folder
from retrieval.common.storage import sync_folder
from retrieval.serving.bundle.manifest import MANIFEST, BundleFiles
from retrieval.serving.bundle.reading import read

NEW = "new"  # the folder of a new bundle in the scratch folder
REPLACED = ".replaced"  # an empty file in a bundle that is on its way to `previous`


def previous(folder: pathlib.Path | str) -> pathlib.Path:
    """Returns the folder of the bundle that `save` replaced last: `{name}.previous`, next to it."""
    folder = pathlib.Path(folder)
    return folder.with_name(f"{folder.name}.previous")


def check_replaceable(folder: pathlib.Path) -> None:
    """Checks that `folder` and `previous` are missing or bundles.

    Raises:
      ValueError: one of them is something else.
    """
    for place in (folder, previous(folder)):
        if place.exists() and not (place / MANIFEST).is_file():
            raise ValueError(f"{place} exists and is no bundle; move it or choose another folder")


def place(new: pathlib.Path, folder: pathlib.Path) -> None:
    """Moves a complete bundle to `folder`, and the one that was there to `previous`.

    Raises:
      OSError: a folder cannot be moved; `folder` is then unchanged.
    """
    with locked(folder.parent):
        mark = folder / REPLACED
        try:
            if folder.exists():
                mark.touch()
            replace_folder(new, folder, previous(folder))
        finally:
            mark.unlink(missing_ok=True)
        (previous(folder) / REPLACED).unlink(missing_ok=True)


def recover(folder: pathlib.Path) -> None:
    """Ends a replacement that a kill has interrupted: the bundle that was replaced becomes `previous`."""
    with locked(folder.parent):
        for scratch in abandoned(folder):
            old = scratch / NEW
            if (old / REPLACED).exists():
                exchange_or_move(old, previous(folder))
                sync_folder(folder.parent)
        for bundle in (folder, previous(folder)):
            (bundle / REPLACED).unlink(missing_ok=True)


def exchange_or_move(old: pathlib.Path, to: pathlib.Path) -> None:
    """Moves a folder to a place, and a folder that is there back to where the first was."""
    if to.exists():
        exchange(old, to)
    else:
        old.rename(to)


def roll_back(folder: pathlib.Path | str) -> None:
    """Exchanges a bundle and the previous one, in one step; a second call exchanges them back.

    Raises:
      ValueError: there is no previous bundle, or it is damaged; nothing is moved.
    """
    folder = pathlib.Path(folder)
    before = previous(folder)
    if folder.parent.is_dir():
        recover(folder)
    if not before.exists():
        raise ValueError(f"there is no bundle before {folder}: {before} does not exist")
    read(BundleFiles.open(before))
    with locked(folder.parent):
        exchange(before, folder)
        sync_folder(folder.parent)
