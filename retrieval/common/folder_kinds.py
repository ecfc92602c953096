"""Says what a folder is that somebody took for another kind of folder: a run for its bundle, a bundle for its run."""

from __future__ import annotations

import pathlib

MARKS = {  # a file that tells the kind, the most telling first
    "query_tower.stablehlo": "is a bundle",
    "config.json": "is the folder of a run",
    "index.json": "is the folder of an index",
}


def describe_folder(folder: pathlib.Path) -> str:
    """Returns what there is at a path, as a sentence about it goes on, with the way to what may be meant.

    >>> describe_folder(pathlib.Path("/no/such/folder"))
    'does not exist'
    """
    if not folder.exists():
        return "does not exist"
    if not folder.is_dir():
        return "is a file, not a folder"
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if not names:
        return "is an empty folder"
    for name, kind in MARKS.items():
        if (folder / name).is_file():
            return f"{kind}{_remedy(folder, name)}"
    if runs := [name for name in names if (folder / name / "config.json").is_file()]:
        return f"is a folder of runs, such as {folder / runs[0]}"
    return f"is a folder with {names[0]!r} in it"


def _remedy(folder: pathlib.Path, name: str) -> str:
    """Returns where the bundle of a run, the run of a bundle, or the bundle of an index is."""
    absolute = folder.absolute()
    if name == "config.json":
        bundle = folder / "bundle"
        return f"; its bundle is {bundle}" if bundle.is_dir() else ", which has no bundle yet"
    if name == "index.json" and (absolute.parent / "query_tower.stablehlo").is_file():
        return f" in the bundle {folder.parent}"
    if name == "query_tower.stablehlo" and (absolute.parent / "config.json").is_file():
        return f" of the run {folder.parent}"
    return ""
