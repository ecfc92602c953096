"""The programs as sub-commands: `retrieval run`, where the package is installed, is `python -m experiments.run`."""

from __future__ import annotations

import ast
import pathlib
import runpy
import sys
import textwrap

from retrieval import __version__
from retrieval.common.choices import did_you_mean

WIDTH = 80
INTERRUPTED = 130  # the status of a shell
FOLDER = pathlib.Path(__file__).parent


def programs() -> dict[str, str]:
    """Returns what each program does, the first line of its docstring, by its name; none is imported."""
    files = {path.stem: path for path in FOLDER.glob("[a-z]*.py")}
    files |= {path.parent.name: path for path in FOLDER.glob("*/__main__.py")}
    return {name: _first_line(files[name]) for name in sorted(files)}


def usage() -> str:
    """Returns the list of programs."""
    known = programs()
    width = max(map(len, known)) + 4
    lines = ["retrieval PROGRAM --FLAG=VALUE ...", "retrieval PROGRAM --help tells the flags of a program.", ""]
    for name, text in known.items():
        lines += textwrap.wrap(text, WIDTH, initial_indent=f"  {name}".ljust(width), subsequent_indent=" " * width)
    return "\n".join(lines)


def main() -> None:
    program, *arguments = sys.argv[1:] or ["--help"]
    if program in ("--help", "-h", "help"):
        print(usage())
    elif program == "--version":
        print(f"retrieval {__version__}")
    elif program not in (known := programs()):
        sys.exit(f"error: no program {program!r}{did_you_mean(program, known)}; retrieval --help lists them")
    else:
        sys.argv = [f"retrieval {program}", *arguments]
        try:
            runpy.run_module(f"{__package__}.{program}", run_name="__main__", alter_sys=True)
        except KeyboardInterrupt:  # while it is imported; it handles later ones
            sys.exit(INTERRUPTED)


def _first_line(path: pathlib.Path) -> str:
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).partition("\n")[0]


if __name__ == "__main__":
    main()
