"""Trains the model of an experiment; resumes where it was interrupted.

python -m experiments.train --config=configs/movielens_100k.py --workdir=runs/movielens_100k
"""

from __future__ import annotations

import dataclasses

from experiments import console, flags
from experiments.workdir import Workdir, load_data
from retrieval import phases
from retrieval.config import Config
from retrieval.data.dataset import Dataset
from retrieval.storage import write_json, write_jsonl


def train(config: Config, dataset: Dataset, workdir: Workdir) -> None:
    """Trains, logs each epoch to `metrics.jsonl`, and records which checkpoint is the result."""
    if workdir.choice_file.exists():
        return console.say("the model is trained already")
    logged: dict[str, list[phases.Record]] = {}

    def log(history: list[phases.Record]) -> None:
        logged[history[-1]["phase"]] = history
        write_jsonl(workdir.log_file, [record for records in logged.values() for record in records])
        show(history)

    with console.training(config.train.epochs, config.train.metric) as show:
        choice = phases.train(config, dataset, workdir.checkpoints, log)
    write_json(workdir.choice_file, dataclasses.asdict(choice))
    console.say(f"trained: the {choice.phase} phase after epoch {choice.epoch}")


def main() -> None:
    config, workdir = flags.config(), Workdir(flags.workdir())
    workdir.check(config)
    train(config, load_data(config, workdir), workdir)


if __name__ == "__main__":
    flags.define_config()
    flags.define_workdir()
    flags.run(main)
