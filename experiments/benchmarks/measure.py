"""Measures a value beside that of a plain reference, both in one run."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from ..shared import console

LAUNCHER = """
import os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(os.waitstatus_to_exitcode(status), time.perf_counter() - started, usage.ru_maxrss)
"""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A measured value beside its reference.

    Attributes:
      name: of the benchmark, as "loss/folded".
      value: of the library.
      reference: of the plain form.
      ratio: `reference / value` where `reach` is how many times better the value must be (">= 40"), `value / reference`
        where it is how many times more the value may cost ("<= 1.3").
      unit: of `value` and `reference`.
      against: description of the reference.
      reach: bound of the ratio.
    """

    name: str
    value: float
    reference: float
    ratio: float
    unit: str
    against: str
    reach: str


def times_better(name: str, value: float, reference: float, unit: str, against: str, reach: float) -> Measurement:
    """Returns the measurement of a value that must be `reach` times faster or smaller than its reference."""
    return Measurement(name, value, reference, reference / value, unit, against, f">= {reach:.3g}")


def share(name: str, value: float, reference: float, unit: str, against: str, reach: float) -> Measurement:
    """Returns the measurement of a value that may cost `reach` times its reference."""
    return Measurement(name, value, reference, value / reference, unit, against, f"<= {reach:.3g}")


def seconds(*functions: Callable[[], Any], rounds: int = 5) -> tuple[float, ...]:
    """Returns the least wall time of each function over `rounds`, after one call that compiles.

    The functions take turns, so that a machine that slows down slows all of them. Each result is waited for.
    """
    for function in functions:
        jax.block_until_ready(function())
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for i, function in enumerate(functions):
            started = time.perf_counter()
            jax.block_until_ready(function())
            best[i] = min(best[i], time.perf_counter() - started)
    return tuple(best)


def interleaved(
    *functions: Callable[[], object], rounds: int, before: Callable[[], None] = lambda: None
) -> tuple[float, ...]:
    """Returns the median wall time of each function; the functions take turns, as in `seconds`.

    Args:
      *functions: the timed functions.
      rounds: number of calls of each, after one that is not timed.
      before: called before each of them, untimed.
    """
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for function_times, function in zip(times, functions, strict=True):
            before()
            started = time.perf_counter()
            result = function()
            function_times.append(time.perf_counter() - started)
            del result  # frees its memory outside of the timing
    return tuple(float(np.median(function_times)) for function_times in times)


def temporary_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """Returns the temporary memory of the compiled function, by the analysis of the compiler."""
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def run_alone(command: Sequence[str], **options: Any) -> tuple[float, int]:
    """Runs a command as from a shell; returns its seconds and its own peak memory in bytes.

    A small process starts it: the `ru_maxrss` of a command begins with the peak of the process that started it, and a
    suite of benchmarks may be large.

    Args:
      command: the program and its arguments.
      **options: of `subprocess.run`, as `cwd` and `env`.

    Raises:
      RuntimeError: it fails.
    """
    launcher = [sys.executable, "-S", "-c", LAUNCHER, *command]
    ended = subprocess.run(launcher, stdout=subprocess.PIPE, text=True, check=True, **options)
    status, seconds, peak = ended.stdout.split()
    if status != "0":
        raise RuntimeError(f"{' '.join(command)} ended with status {status}")
    return float(seconds), int(peak) * (1 if sys.platform == "darwin" else 1024)  # macOS counts bytes


def print_measurements(measurements: Sequence[Measurement]) -> None:
    """Prints measurements beside their references."""
    rows = [[m.name, f"{m.value:.4g}", f"{m.reference:.4g}", m.unit, f"{m.ratio:.2f}", m.reach] for m in measurements]
    console.show_table("Measured", ["name", "value", "reference", "unit", "ratio", "to reach"], rows)
