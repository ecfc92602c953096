"""The programs, started as a user starts them, and the files that they leave."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]


def program(name, *arguments, fails=False):
    """Runs `python -m experiments.NAME`; returns what it prints, or its error where it must fail."""
    command = [sys.executable, "-m", f"experiments.{name}", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=ROOT)
    assert (result.returncode != 0) == fails, result.stdout + result.stderr
    assert "Traceback" not in result.stderr, result.stderr
    return result.stderr if fails else result.stdout


def contents(folder):
    """Returns the bytes of each file in a folder, by path."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
