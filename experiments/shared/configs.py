"""The shipped configs by name: `--config=movielens_100k` is `configs/movielens_100k.py`, from any folder."""

from __future__ import annotations

import importlib.util
import pathlib
import types

from retrieval.common.choices import did_you_mean

FOLDER = pathlib.Path(__file__).parents[2] / "configs"


def shipped() -> list[str]:
    """Returns the names of the shipped configs."""
    return sorted(path.stem for path in FOLDER.glob("*.py"))


def module_of(name: str) -> types.ModuleType:
    """Imports a shipped config from its file."""
    spec = importlib.util.spec_from_file_location(f"config_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_files(argv: list[str]) -> list[str]:
    """Returns the arguments with the file in `--config`, where the name of a shipped config or a path without .py was.

    Raises:
      ValueError: there is no such file.
    """
    found, follows = [], False
    for argument in argv:
        flag, has_value, value = argument.partition("=")
        if follows:
            argument = file_of(argument)
        elif has_value and flag in ("--config", "-config"):
            argument = f"--config={file_of(value)}"
        follows = not follows and argument in ("--config", "-config")
        found.append(argument)
    return found


def file_of(text: str) -> str:
    """Returns the path of the config that `text` names, FILE or FILE:VARIANT, with the variant.

    Raises:
      ValueError: there is no such file.
    """
    path, colon, variant = text.partition(":")
    for file in _files(pathlib.Path(path)):
        if file.is_file():
            return f"{file}{colon}{variant}"
    if pathlib.Path(path, "config.json").is_file():
        raise ValueError(
            f"--config={path} is the folder of a run; give it as --workdir, beside the config of its beginning"
        )
    names = shipped()
    raise ValueError(
        f"--config: No such file or directory: {path!r}{did_you_mean(pathlib.Path(path).stem, names)}; "
        f"shipped are {', '.join(names)}"
    )


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    """Returns the files that a path may mean, the likeliest first."""
    files = [path, path.with_name(f"{path.name}.py")] if path.name else []
    if path.name and path.parent.as_posix() in (".", "configs"):
        files.append(FOLDER / f"{path.name.removesuffix('.py')}.py")
    return files
