"""Trains the model of an experiment; resumes where it was interrupted.

python -m experiments.train --config=configs/movielens_100k.py --workdir=runs/movielens_100k
"""

from __future__ import annotations

import contextlib

from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.pipeline import search_and_fit
from retrieval.pipeline.phase import Record
from retrieval.pipeline.trained import Trained

from .shared import console, flags
from .shared.profiler import Profiler
from .shared.run_data import load_data
from .shared.workdir import Workdir

DONE = "the model is trained already"


def train_or_restore(config: Config, dataset: Dataset, workdir: Workdir, profile: bool = False) -> Trained:
    """Returns the trained model of the run, trained now unless an earlier process has done that."""
    if not workdir.choice_file.exists():
        return train(config, dataset, workdir, profile)
    console.say(DONE)
    return search_and_fit.restore(config, dataset, workdir.checkpoints, workdir.read_choice())


def train(config: Config, dataset: Dataset, workdir: Workdir, profile: bool = False) -> Trained:
    """Trains, logs each epoch to `metrics.jsonl`, and records which checkpoint is the result.

    With `profile`, the trace of a few epochs is written besides; it changes nothing else.
    """
    logged: dict[str, list[Record]] = {}

    def log(history: list[Record]) -> None:
        logged[history[-1]["phase"]] = history
        workdir.write_log([record for records in logged.values() for record in records])
        show(history)
        if profiler:
            profiler.after_epoch(history)

    profiling = Profiler(workdir.profile) if profile else contextlib.nullcontext()
    with console.training(config.train.epochs, config.train.metric) as show, profiling as profiler:
        trained = search_and_fit.train(config, dataset, workdir.checkpoints, log)
    workdir.write_choice(trained.choice)
    console.say(f"trained: the {trained.choice.phase} phase after epoch {trained.choice.epoch}")
    return trained


def main() -> None:
    config, workdir = flags.config(), Workdir(flags.workdir())
    with workdir.claimed("trains"):
        workdir.check(config)
        dataset = load_data(config, workdir)
        if workdir.choice_file.exists():
            return console.say(DONE)
        train(config, dataset, workdir, flags.profile())


if __name__ == "__main__":
    flags.define_config()
    flags.define_workdir()
    flags.define_profile()
    flags.run(main)
