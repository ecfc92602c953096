"""Evaluated systems, read by their names on the command line."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from retrieval.common.choices import did_you_mean
from retrieval.config.serialization import differences
from retrieval.data.ids import Ids
from retrieval.evaluation.comparison import SeedSummary, average, summarize_seeds
from retrieval.evaluation.per_query import PerQuery
from retrieval.pipeline.evaluate_trained import create_evaluation

from .run_data import load_checked
from .workdir import MODEL, Workdir

SEED_FIELD = "train.seed"


@dataclasses.dataclass(frozen=True)
class System:
    """An evaluated system, trained once or with several seeds.

    Attributes:
      seeds: metrics of each query, by the name of the run.
      per_query: their mean over the seeds.
    """

    seeds: Mapping[str, PerQuery]
    per_query: PerQuery

    def take(self, query_ids: Ids) -> System:
        """Returns the system on some of the queries."""
        seeds = {name: per_query.take(query_ids) for name, per_query in self.seeds.items()}
        return System(seeds, self.per_query.take(query_ids))

    def summary(self) -> dict[str, SeedSummary]:
        """Returns mean and spread of each metric."""
        return summarize_seeds(self.seeds)


def read_system(name: str) -> System:
    """Reads the system of RUN or RUN:SYSTEM; without SYSTEM, the model.

    RUN is the folder of a run, or of several seeds as `experiments.seeds` writes it.

    Raises:
      ValueError: the run does not exist, lacks the system, or has seeds of different configs.
    """
    folder, system = _parsed(name)
    runs = seed_runs(folder)
    seeds = {str(run.path): run.read_per_query(system) for run in runs}
    return System(seeds, average(seeds))


def read_slice(name: str, slice_name: str) -> Ids:
    """Returns the ids of the queries in a slice of the test part, as "vocabulary=cold".

    Raises:
      ValueError: the system or the slice does not exist.
    """
    run = seed_runs(_parsed(name)[0])[0]
    config = run.read_config()
    dataset = load_checked(config)
    run.check_data(dataset)
    evaluation = create_evaluation(config, dataset)
    slices = {f"{slice_.column}={slice_.value}": slice_.members for slice_ in evaluation.query_slices}
    if slice_name not in slices:
        near = did_you_mean(slice_name, slices)
        raise ValueError(f"--queries: there is no slice {slice_name!r}{near}; there are {', '.join(slices)}")
    return evaluation.targets.query_ids[slices[slice_name]]


def _parsed(name: str) -> tuple[pathlib.Path, str]:
    """Returns the folder and the system of RUN or RUN:SYSTEM."""
    folder, system = pathlib.Path(name), MODEL
    if not folder.exists() and ":" in name:
        path, _, system = name.rpartition(":")
        folder = pathlib.Path(path)
    if not folder.is_dir():
        raise ValueError(f"{name}: there is no folder {folder}; give the workdir of a run, or WORKDIR:BASELINE")
    return folder, system


def seed_runs(folder: pathlib.Path) -> list[Workdir]:
    """Returns the run in a folder, or the runs in its folders seed_0, seed_1, ..., in the order of their numbers.

    Raises:
      ValueError: the folder has no run, or its runs differ in more than the seed, or have the same seed.
    """
    if Workdir(folder).config_file.exists():
        return [Workdir(folder)]
    numbers = sorted(int(path.name[5:]) for path in folder.glob("seed_*") if path.name[5:].isdecimal())
    runs = [Workdir(folder / f"seed_{number}") for number in numbers]
    if not runs:
        raise ValueError(
            f"{folder} holds no run: it has no config.json, and no folders seed_0, seed_1, ...; "
            "experiments.run makes one, experiments.seeds several"
        )
    _check_seeds(runs)
    return runs


def _check_seeds(runs: Sequence[Workdir]) -> None:
    """Checks that runs differ in their seed and in nothing else."""
    first, run_of = runs[0], {}
    for run in runs:
        config = run.read_config()
        lines = [line for line in differences(first.read_config(), config) if not line.startswith(f"{SEED_FIELD}:")]
        if lines:
            raise ValueError(
                f"{first.path} and {run.path} are no seeds of one config (field: first, second):\n  "
                + "\n  ".join(lines)
                + "\ncompare them as two runs"
            )
        other = run_of.setdefault(config.train.seed, run)
        if other is not run:
            raise ValueError(f"{other.path} and {run.path} have one seed; remove one of them")
