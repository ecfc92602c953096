"""Arguments of the programs as they are typed: checked before they are parsed, and named so in errors."""

from __future__ import annotations

import contextlib
import pathlib
import re
import sys
import traceback
import typing
from collections.abc import Iterator

from absl import flags

from retrieval.common.choices import did_you_mean
from retrieval.config.fields import SHOWN, check_field, field_types, shown
from retrieval.config.schema import Config
from retrieval.config.values import UNWRITABLE, check_text, is_flag

from . import configs, console, help

# An override and its value, as --config.train.epochs=3; --index.k=3 sets index.k. A value may follow after a blank.
OVERRIDE = re.compile(r"--?(?:no)?(?:config\.|(?=index\.))([^=]+)(=?)(.*)", re.DOTALL)
# A field that a flag can set, by its path, as errors name it; not what is quoted or a file.
PATHS = [path for path, hint in field_types(Config).items() if "." in path and is_flag(hint)]
FIELD = re.compile(rf"(?<![\w./'\"=-])(?:{'|'.join(map(re.escape, sorted(PATHS, reverse=True)))})\b(?!/)")
FOLDER = re.compile(r"--?(workdir|bundle)(=?)(.*)", re.DOTALL)
FUNCTIONS = ("<module>", "get_config", "get_space")  # what a config file has
OWN_FILES = frozenset(map(str, pathlib.Path(__file__).parents[1].rglob("*.py")))  # no config files


def as_typed(text: str) -> str:
    """Returns an error with the fields in it as the command line names them, where the program has --config or --index.

    >>> as_typed("train.epochs must be 0 or more")  # of a program with --config
    '--config.train.epochs must be 0 or more'
    """
    if "config" in flags.FLAGS:
        return FIELD.sub(lambda field: f"--config.{field[0]}", text)
    prefix = "--" if "index" in flags.FLAGS else ""
    return FIELD.sub(lambda field: f"{prefix * field[0].startswith('index.')}{field[0]}", text)


def check_overrides(argv: list[str]) -> None:
    """Ends the program where an argument is no text, or overrides a field that is not there or with no such value."""
    for argument in argv[1:]:
        if place := UNWRITABLE.search(argument):
            sys.exit(f"error: {shown(argument)} has {place[0]!r} in it, which no argument may have")
    for argument, following in zip(argv[1:], [*argv[2:], ""], strict=False):
        if (match := FOLDER.fullmatch(argument)) and not (match[3] if match[2] else following):
            sys.exit(f"error: --{match[1]} is empty, which would be the current folder; name one, or . for it")
    for argument, following in zip(argv[1:], [*argv[2:], ""], strict=False):
        if match := OVERRIDE.match(argument):
            path, has_text, text = match.groups()
            try:
                check_field(Config, path)
            except ValueError as error:
                sys.exit(f"error: {shown(argument[: SHOWN - 2])[1:-1]}: {error}")
            try:
                _check_override(path, text if has_text else following, is_alone=not has_text)
            except ValueError as error:
                sys.exit(f"error: {as_typed(str(error))}")


def _check_override(path: str, text: str, is_alone: bool) -> None:
    fields = field_types(Config)
    if path not in fields:  # a key of a dictionary
        check_text(typing.get_args(fields[path.rpartition(".")[0]])[1], text, path)
    elif not (is_alone and fields[path] is bool):  # a flag without a value is true, with "no" before it false
        check_text(fields[path], text, path)


def parse(argv: list[str]) -> list[str]:
    """Parses the flags, after checks of each argument; `--help` ends the program."""
    if help.is_asked(argv):
        help.show(argv)
        sys.exit(0)
    check_overrides(argv)
    try:
        argv = configs.with_files(argv)
    except ValueError as error:
        sys.exit(f"error: {error}")
    try:
        with running_config():
            return flags.FLAGS(argv)
    except KeyError as error:
        sys.exit(f"error: the config file sets no {error}, and a flag can only override what it sets")
    except ValueError as error:
        sys.exit(f"error: {error}")
    except flags.UnrecognizedFlagError as error:
        sys.exit(f"error: {console.printable(_unknown(error.flagname, argv))}\nsee --help")
    except flags.Error as error:
        lines = str(error).strip().splitlines()
        sys.exit(f"error: {lines[0]}" + (f" {lines[-1]}" if len(lines) > 1 else "") + "\nsee --help")


def _unknown(name: str, argv: list[str]) -> str:
    """Returns what to write in place of a flag that the program does not have."""
    value = next((a.partition("=")[2] for a in argv if a.lstrip("-").startswith(f"{name}=")), "")
    setting = f"={value}" if value else ""
    fields = [path for path in PATHS if path.rpartition(".")[2] == name] if "config" in flags.FLAGS else []
    if fields:
        return f"no flag --{name}; did you mean {' or '.join(f'--config.{path}{setting}' for path in fields)}?"
    if name == "workdir" and "bundle" in flags.FLAGS:
        return f"no flag --workdir: this program reads a bundle, --bundle={value or 'WORKDIR'}/bundle"
    if name == "config" and "workdir" in flags.FLAGS:
        return "no flag --config: the run has its own, give --workdir alone"
    if name == "bundle" and "workdir" in flags.FLAGS:
        return "no flag --bundle: this program reads a run, --workdir"
    return f"no flag --{name}{did_you_mean(name, [flag for flag in flags.FLAGS if len(flag) > 1])}"


@contextlib.contextmanager
def running_config() -> Iterator[None]:
    """Makes an error in the program that a config file is a ValueError with its place in the file.

    Raises:
      ValueError: the file has an error.
    """
    try:
        yield
    except (ValueError, OSError, KeyError, flags.Error):
        raise
    except Exception as error:  # of whatever kind
        frames = traceback.extract_tb(error.__traceback__)
        places = [frame for frame in frames if frame.name in FUNCTIONS and frame.filename not in OWN_FILES]
        place = f"{places[-1].filename}, line {places[-1].lineno}: " if places else ""
        raise ValueError(f"--config: {place}{type(error).__name__}: {' '.join(str(error).split())}") from None


def writable(path: str, suffix: str) -> pathlib.Path:
    """Returns the path of --out, where a program may write a file of that kind.

    Raises:
      ValueError: it is a folder, its folder is missing, or a file of another kind is there.
    """
    file = pathlib.Path(path)
    if file.is_dir():
        raise ValueError(f"--out={path} is a folder; name a file in it")
    if not file.absolute().parent.is_dir():
        raise ValueError(f"--out={path}: the folder {file.parent} does not exist; make it, or name another")
    if file.exists() and file.suffix != suffix:
        raise ValueError(f"--out={path} is there, and no {suffix} file; nothing is overwritten: name another file")
    return file
