"""Trains the model of an experiment; resumes where it was interrupted.

python -m experiments.train --config=configs/movielens_100k.py --workdir=runs/movielens_100k
"""

from __future__ import annotations

import contextlib
import dataclasses

from experiments.shared import console, flags
from experiments.shared.profiler import Profiler
from experiments.shared.run_data import load_data
from experiments.shared.workdir import Workdir
from retrieval.common.storage import write_json, write_jsonl
from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.pipeline import search_and_fit


def train(config: Config, dataset: Dataset, workdir: Workdir, profile: bool = False) -> None:
    """Trains, logs each epoch to `metrics.jsonl`, and records which checkpoint is the result.

    With `profile`, the trace of a few epochs is written besides; it changes nothing else.
    """
    if workdir.choice_file.exists():
        return console.say("the model is trained already")
    logged: dict[str, list[search_and_fit.Record]] = {}

    def log(history: list[search_and_fit.Record]) -> None:
        logged[history[-1]["phase"]] = history
        write_jsonl(workdir.log_file, [record for records in logged.values() for record in records])
        show(history)
        if profiler:
            profiler.after_epoch(history)

    profiling = Profiler(workdir.profile) if profile else contextlib.nullcontext()
    with console.training(config.train.epochs, config.train.metric) as show, profiling as profiler:
        choice = search_and_fit.train(config, dataset, workdir.checkpoints, log)
    write_json(workdir.choice_file, dataclasses.asdict(choice))
    console.say(f"trained: the {choice.phase} phase after epoch {choice.epoch}")


def main() -> None:
    config, workdir = flags.config(), Workdir(flags.workdir())
    workdir.check(config)
    train(config, load_data(config, workdir), workdir, flags.profile())


if __name__ == "__main__":
    flags.define_config()
    flags.define_workdir()
    flags.define_profile()
    flags.run(main)
