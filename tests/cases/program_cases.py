"""The programs, started as a user starts them, and the files that they leave."""

import atexit
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
READ_AT_IMPORT = ("JAX_", "XLA_", "PYTHON")  # variables that a process reads before its program begins


def program(name, *arguments, fails=False):
    """Runs `python -m experiments.NAME`; returns what it prints, or its error where it must fail."""
    result = started(name, *arguments)
    assert (result.returncode != 0) == fails, result.stdout + result.stderr
    return result.stderr if fails else result.stdout


def started(name, *arguments):
    """Runs `python -m experiments.NAME` and returns how it ended; a traceback is a failure, however it ends."""
    module, arguments = f"experiments.{name}", [*map(str, arguments)]
    with tempfile.TemporaryDirectory() as folder:
        output, errors = (pathlib.Path(folder, file) for file in ("output", "errors"))
        order = {"module": module, "arguments": arguments, "folder": str(ROOT), "environment": dict(os.environ)}
        server = _server(*sorted(item for item in os.environ.items() if item[0].startswith(READ_AT_IMPORT)))
        server.stdin.write(json.dumps(order | {"output": str(output), "errors": str(errors)}) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        texts = [path.read_bytes().decode() for path in (output, errors)]
    assert "Traceback" not in texts[1], texts[1]
    return subprocess.CompletedProcess([module, *arguments], status, *texts)


@functools.cache
def _server(*variables):
    """Starts the process whose forks are the programs, for one environment."""
    script = pathlib.Path(__file__).with_name("program_server.py")
    server = subprocess.Popen(
        [sys.executable, str(script)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    atexit.register(_end, server)
    return server


def _end(server):
    server.stdin.close()
    server.wait()
    server.stdout.close()


def contents(folder):
    """Returns the bytes of each file in a folder, by path."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
