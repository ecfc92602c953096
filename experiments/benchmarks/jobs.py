"""Measures the whole main job, as a user starts it."""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile

from .measure import Measurement, run_alone, share, times_better

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = f"{__package__.rpartition('.')[0]}.run"
# TensorFlow Recommenders 0.7.7 with its metrics on, measured once on two cores of a similar machine; 77 s without.
TFRS_SECONDS, TFRS_MEBIBYTES = 176.0, 1730.0
SECONDS, COMPILATION, MEBIBYTES = 9.0, 4.0, 600.0


def movielens(config: str = "configs/movielens_100k.py", rounds: int = 3) -> list[Measurement]:
    """Measures a job from the start of its process to its exit: the first on a machine, and later ones.

    The first job compiles all programs, later jobs read them from the compilation cache. The data are on disk already.
    """
    with tempfile.TemporaryDirectory() as folder:
        cold, *warm = (_run(config, pathlib.Path(folder), i) for i in range(rounds + 1))
    measurements = []
    for name, runs in (("run/movielens_100k", warm), ("run/movielens_100k/first", [cold])):
        seconds, compilation, _ = min(runs)
        mebibytes = max(memory for *_, memory in runs)
        against = "TensorFlow Recommenders, metrics on"
        measurements += [
            times_better(name, seconds, TFRS_SECONDS, "seconds", against, TFRS_SECONDS / SECONDS),
            share(f"{name}/compilation", compilation, COMPILATION, "seconds", "the bound", 1.0),
            times_better(f"{name}/memory", mebibytes, TFRS_MEBIBYTES, "MiB", against, TFRS_MEBIBYTES / MEBIBYTES),
        ]
    return measurements


def _run(config: str, folder: pathlib.Path, number: int) -> tuple[float, float, float]:
    """Returns the seconds of one job, the seconds of compilation among them, and its peak memory in MiB."""
    workdir = folder / str(number)
    command = [sys.executable, "-m", PROGRAM, f"--config={config}", f"--workdir={workdir}"]
    environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(folder / "compiled")}
    seconds, peak = run_alone(command, cwd=ROOT, env=environment)
    metrics = json.loads((workdir / "metrics.json").read_text(encoding="utf-8"))
    return seconds, metrics["seconds/compilation"], peak / 2**20
