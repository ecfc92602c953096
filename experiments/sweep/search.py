"""Runs a sweep: processes that train trials until all are done, and the files of their results."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from retrieval.common.storage import write_json, write_jsonl
from retrieval.config.schema import Config
from retrieval.config.space import Space, as_flags, check_space

from ..shared import console
from ..shared.run_data import load_checked
from . import study as study_lib
from .folder import SweepFolder, Trial
from .report import write_sweep

SECONDS = 0.5  # between reads of the journal
NUM_SHOWN = 10  # of the table


def sweep(config: Config, space: Space, folder: SweepFolder, trials: int, processes: int) -> list[Trial]:
    """Trains until the sweep has `trials` trials and writes their results; returns them, best first.

    A sweep that began before is resumed. Pruned and diverged trials count.

    Raises:
      ValueError: the space does not fit the config, the data have no validation part, the folder has other content,
        another sweep runs in it, or some settings do not fit the config or the data.
    """
    check_space(space, config)
    if config.train.evaluate_every < 1:
        raise ValueError("a sweep needs metrics on the validation part: set train.evaluate_every to 1 or more")
    with folder.claimed():
        dataset = load_checked(config)
        if dataset.parts.validation is None:
            raise ValueError("a sweep needs a validation part: set data.split.validation_fraction or data.validation")
        folder.begin(config, space, dataset)
        del dataset  # each process loads its own
        study_lib.mend(folder.journal)
        study = study_lib.open_study(folder.journal, warmup=0)
        study_lib.begin(study, config, space)
        ended = study_lib.finished(study, space)
        if ended:
            console.say(f"{folder.path} has {len(ended)} trials already")
        missing = trials - len(ended)
        if missing > 0:
            with _workers(folder, min(processes, missing), study_lib.limit(study, trials)) as workers:
                while _is_any_running(workers):
                    time.sleep(SECONDS)
                    ended = _show_new(study_lib.finished(study, space), ended)
        return conclude(config, space, folder, _show_new(study_lib.finished(study, space), ended))


def conclude(config: Config, space: Space, folder: SweepFolder, trials: Sequence[Trial]) -> list[Trial]:
    """Writes all trials, the best trial, and the page that shows them; returns the trials, best first."""
    ranked = sorted(trials, key=lambda trial: (-trial.best[1], trial.number))
    write_jsonl(folder.trials_file, [to_record(trial) for trial in trials])
    write_json(folder.best_file, to_record(ranked[0]) | {"flags": as_flags(ranked[0].settings)})
    write_sweep(config, space, folder, trials)
    return ranked


def to_record(trial: Trial) -> dict:
    """Returns a trial as a JSON record."""
    epoch, value = trial.best
    facts = {"number": trial.number, "state": trial.state, "value": value, "epoch": epoch, "seconds": trial.seconds}
    return facts | {"settings": trial.settings, "curve": trial.curve}


def print_best(ranked: Sequence[Trial], metric: str) -> None:
    """Prints the best trials, and the flags of the best."""
    fields = list(ranked[0].settings)
    rows = [
        [str(t.number), f"{t.best[1]:.4f}", str(t.best[0]), t.state, *(f"{t.settings[field]}" for field in fields)]
        for t in ranked[:NUM_SHOWN]
    ]
    console.show_table(f"Best trials, {metric} on validation", ["trial", "metric", "epoch", "state", *fields], rows)
    console.say("the best settings, as flags:\n" + " ".join(as_flags(ranked[0].settings)))


@contextlib.contextmanager
def _workers(folder: SweepFolder, processes: int, most: int) -> Iterator[list[subprocess.Popen]]:
    """Yields running processes, each on its own share of the cores; they end with the `with` statement."""
    command = [sys.executable, "-m", f"{__package__}.worker", str(folder.path)]
    share = os.environ | {"XLA_PYTHON_CLIENT_MEM_FRACTION": f"{0.75 / processes:.3f}"}  # of a GPU's memory
    workers: list[subprocess.Popen] = []
    try:
        for worker in range(processes):
            arguments = [*command, str(worker), str(most)]
            with _on_cores(worker, processes):  # a process inherits the cores of its parent
                workers.append(subprocess.Popen(arguments, stdin=subprocess.PIPE, env=share, start_new_session=True))
        yield workers
    finally:
        for process in workers:
            process.terminate()
            process.wait()
            process.stdin.close()


@contextlib.contextmanager
def _on_cores(worker: int, processes: int) -> Iterator[None]:
    """Runs the body of a `with` statement on one of `processes` shares of the cores, where the system supports it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    cores = os.sched_getaffinity(0)
    ordered = sorted(cores)
    size = max(len(cores) // processes, 1)
    start = worker * size % len(cores)
    os.sched_setaffinity(0, ordered[start : start + size])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def _is_any_running(workers: Sequence[subprocess.Popen]) -> bool:
    """Tells whether a process is still running.

    Raises:
      ValueError: a process failed.
    """
    for process in workers:
        if process.poll():
            raise ValueError(f"a process of the sweep ended with status {process.returncode}; its error is above")
    return any(process.poll() is None for process in workers)


def _show_new(trials: list[Trial], shown: Sequence[Trial]) -> list[Trial]:
    """Prints the results of the trials that are not printed yet; returns `trials`."""
    best = max((trial.best[1] for trial in trials), default=0.0)
    numbers = {trial.number for trial in shown}
    for trial in trials:
        if trial.number not in numbers:
            epoch, value = trial.best
            settings = " ".join(f"{field}={setting}" for field, setting in trial.settings.items())
            head = f"trial {trial.number:>3}  {value:.4f} at epoch {epoch:>3}  best {best:.4f}  {trial.state:>8}"
            console.say_progress(f"{head}  {settings}")
    return trials
