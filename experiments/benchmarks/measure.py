"""How a benchmark measures: a figure beside that of a plain reference, both taken in one run."""

from __future__ import annotations

import dataclasses
import pathlib
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Figure:
    """One measured figure beside its reference.

    Attributes:
      name: what is measured, as "loss/folded".
      value: the figure.
      reference: the same of the plain form.
      ratio: `reference / value` where `reach` says how many times better it shall be (">= 40"), `value / reference`
        where it says how much dearer it may be ("<= 1.3").
      unit: of `value` and `reference`.
      against: what the reference is.
      reach: what the ratio shall reach.
    """

    name: str
    value: float
    reference: float
    ratio: float
    unit: str
    against: str
    reach: str


def times_better(name: str, value: float, reference: float, unit: str, against: str, reach: float) -> Figure:
    """Returns the figure of something that shall be `reach` times faster or smaller than its reference."""
    return Figure(name, value, reference, reference / value, unit, against, f">= {reach:.3g}")


def share(name: str, value: float, reference: float, unit: str, against: str, reach: float) -> Figure:
    """Returns the figure of something that may cost `reach` times its reference."""
    return Figure(name, value, reference, value / reference, unit, against, f"<= {reach:.3g}")


def seconds(*functions: Callable[[], Any], rounds: int = 5) -> tuple[float, ...]:
    """Returns the least wall time of each function over `rounds`, after one call that compiles.

    They take turns, so that a machine which slows down slows all of them; each is waited for.
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
    """Returns the median wall time of each function; they take turns, so that a busy machine is busy for all.

    Args:
      functions: that are timed.
      rounds: of them.
      before: is called, untimed, before each.
    """
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(rounds):
        for own, function in zip(times, functions, strict=True):
            before()
            started = time.perf_counter()
            result = function()
            own.append(time.perf_counter() - started)
            del result  # its memory is given back untimed
    return tuple(float(np.median(own)) for own in times)


def temporary_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """Returns the temporary memory of the compiled function, by the compiler's own analysis."""
    return jax.jit(function).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def peak_bytes() -> int:
    """Returns the most memory that this process held; `ru_maxrss` would begin with that of the process it came from."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
