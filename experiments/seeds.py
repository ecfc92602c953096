"""Runs an experiment with several seeds and prints mean and spread of its metrics.

    python -m experiments.seeds --config=configs/movielens_100k.py --workdir=runs/movielens_100k_seeds --seeds=3

The seed of the initial values and of the order of examples varies; the split stays the same. Each run has its own
folder. `summary.json` has for each metric the mean, the standard deviation over the seeds, and the standard error over
the test users. `experiments.compare` takes the folder as one system.
"""

from __future__ import annotations

import copy
import dataclasses
import pathlib
from collections.abc import Sequence

from absl import flags as absl_flags

from retrieval.common.storage import write_json
from retrieval.config.schema import Config
from retrieval.evaluation.comparison import SeedSummary, seed_summary, summarize_seeds

from .run import run
from .shared import comparison_tables, console, flags
from .shared.workdir import Workdir

SEEDS = absl_flags.DEFINE_integer("seeds", 3, "Number of seeds, from 0 on.", 2, 1000)


def run_seeds(config: Config, folder: pathlib.Path, seeds: int) -> dict[str, SeedSummary]:
    """Runs the experiment with seeds 0, 1, ...; returns mean and spread of each metric."""
    workdirs = [Workdir(folder / f"seed_{seed}") for seed in range(seeds)]
    for seed, workdir in enumerate(workdirs):
        run(with_seed(config, seed), workdir, line=f"seed {seed}")
    return summarize(workdirs)


def summarize(workdirs: Sequence[Workdir]) -> dict[str, SeedSummary]:
    """Returns mean and spread of each metric that all the runs have; null counts as NaN."""
    errors = {}
    for system in set.intersection(*(set(workdir.systems()) for workdir in workdirs)):
        summaries = summarize_seeds({str(workdir.path): workdir.read_per_query(system) for workdir in workdirs})
        errors |= {f"{system}/{name}": summary.query_error for name, summary in summaries.items()}
    runs = [workdir.read_metrics() for workdir in workdirs]
    names = [name for name in runs[0] if all(name in metrics for metrics in runs)]
    columns = {name: [metrics[name] for metrics in runs] for name in names}
    return {name: seed_summary(values, errors.get(name, float("nan"))) for name, values in columns.items()}


def with_seed(config: Config, seed: int) -> Config:
    """Returns a copy of the config with another training seed."""
    config = copy.deepcopy(config)
    config.train.seed = seed
    return config


def main() -> None:
    folder = pathlib.Path(flags.workdir())
    summary = run_seeds(flags.config(), folder, SEEDS.value)
    records = {name: dataclasses.asdict(metric) for name, metric in summary.items()}
    write_json(folder / "summary.json", {"seeds": SEEDS.value, **records})
    comparison_tables.print_seeds(summary, SEEDS.value)
    console.say(f"all metrics: {folder / 'summary.json'}")


if __name__ == "__main__":
    flags.define_config()
    flags.define_workdir()
    flags.run(main)
