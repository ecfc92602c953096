"""Runs an experiment with several seeds and prints the mean and the standard deviation of its figures.

    python -m experiments.seeds --config=configs/movielens_100k.py --workdir=runs/movielens_100k_seeds --seeds=3

The seed of the initial values and of the order of examples varies; the split stays. Each run lies in a folder of its
own, and the summary beside them in `summary.json`.
"""

from __future__ import annotations

import copy
import pathlib

import numpy as np
from absl import flags as absl_flags

from experiments import console, flags
from experiments.run import run
from experiments.workdir import Workdir
from retrieval.config import Config
from retrieval.storage import write_json

SEEDS = absl_flags.DEFINE_integer("seeds", 3, "How many seeds, from 0 on.", lower_bound=2)


def run_seeds(config: Config, folder: pathlib.Path, seeds: int) -> dict[str, dict[str, float]]:
    """Returns the mean and the standard deviation of each figure over runs with seeds 0, 1, ..."""
    metrics = []
    for seed in range(seeds):
        workdir = Workdir(folder / f"seed_{seed}")
        run(with_seed(config, seed), workdir)
        metrics.append(workdir.read_metrics())
    columns = {name: np.array([figures[name] for figures in metrics]) for name in metrics[0]}
    return {name: {"mean": float(values.mean()), "sd": float(values.std(ddof=1))} for name, values in columns.items()}


def with_seed(config: Config, seed: int) -> Config:
    """Returns a copy of the config with another training seed."""
    config = copy.deepcopy(config)
    config.train.seed = seed
    return config


def main() -> None:
    folder = pathlib.Path(flags.workdir())
    summary = run_seeds(flags.config(), folder, SEEDS.value)
    write_json(folder / "summary.json", {"seeds": SEEDS.value, **summary})
    console.print_summary(summary, SEEDS.value)
    console.say(f"all figures: {folder / 'summary.json'}")


if __name__ == "__main__":
    flags.define_config()
    flags.define_workdir()
    flags.run(main)
