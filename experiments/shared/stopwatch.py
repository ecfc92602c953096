"""Wall time of the stages of a program."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from . import compilation, console


class Stopwatch:
    """Measures the wall time of stages, in seconds."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._started, self._compiled = time.perf_counter(), compilation.seconds()

    @contextlib.contextmanager
    def stage(self, name: str, doing: str) -> Iterator[None]:
        """Measures the body of a with statement as the stage `name`, and says what is done in it."""
        console.say_progress(f"{doing} ...")
        started = time.perf_counter()
        yield
        self.seconds[f"seconds/{name}"] = time.perf_counter() - started

    def total(self) -> dict[str, float]:
        """Returns the seconds of each stage, of compilation within them, and of all since the start."""
        total = time.perf_counter() - self._started
        return self.seconds | {"seconds/compilation": compilation.seconds() - self._compiled, "seconds/total": total}
