"""Trades retrieval against the tasks: runs an experiment with several weights of its tasks, and draws the Pareto curve.

    python -m experiments.pareto --config=configs/multitask.py --workdir=runs/pareto --weights=0,0.1,0.3,1,3

Each of `--weights` multiplies the weights of all tasks in the config. Each run has its own folder; a repeated command
with more weights leaves finished runs alone. `pareto.json` has the metrics of all runs, and `report.html` the curve of
ranking against the error of each task. A weight is on the front where no other weight is better in one of the two and
not worse in the other. Choose by the validation part; the test part is shown beside it.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import pathlib
from collections.abc import Sequence

from absl import flags as absl_flags

from retrieval.common.storage import write_json
from retrieval.config.schema import Config
from retrieval.pipeline.checks import check_experiment

from .report.pareto import write_pareto
from .report.records import Records
from .report.trade_off import WeightResult, metric_titles, weight_results
from .run import run
from .shared import console, flags
from .shared.workdir import Workdir

WEIGHTS = absl_flags.DEFINE_list("weights", ["0", "0.1", "0.3", "1", "3"], "Factors of the weights of the tasks.")


def run_weights(config: Config, folder: pathlib.Path, factors: Sequence[float]) -> list[WeightResult]:
    """Runs the experiment with the weights of its tasks times each factor; writes and returns the results, ascending.

    Raises:
      ValueError: the config has no tasks or no validation part, or a factor is negative or given twice.
    """
    if not config.tasks:
        raise ValueError("the config has no tasks to trade retrieval against; set config.tasks")
    if not factors or len(set(factors)) < len(factors) or not all(0 <= factor < math.inf for factor in factors):
        raise ValueError(
            f"--weights must be numbers of 0 or more, each once, got {', '.join(f'{f:g}' for f in factors) or 'none'}"
        )
    for factor in factors:
        check_experiment(with_weights(config, factor))
    runs = {}
    for factor in sorted(factors):
        workdir = Workdir(folder / f"weight_{factor:g}")
        run(with_weights(config, factor), workdir)
        runs[factor] = Records.read(workdir)
    results = weight_results(config, runs)
    write_json(folder / "pareto.json", [dataclasses.asdict(result) for result in results])
    write_pareto(config, results, folder)
    return results


def with_weights(config: Config, factor: float) -> Config:
    """Returns a copy of the config with the weights of its tasks times a factor."""
    config = copy.deepcopy(config)
    config.tasks = tuple(dataclasses.replace(task, weight=factor * task.weight) for task in config.tasks)
    return config


def print_results(config: Config, results: Sequence[WeightResult]) -> None:
    """Prints the ranking and the errors of each weight, on the validation part and on test."""
    titles = metric_titles(config)
    header = ["weights", *(f"{part} {label}" for part in ("validation", "test") for label in titles.values()), "front"]
    rows = []
    for result in results:
        cells = [f"{metrics[name]:.4f}" for metrics in (result.validation, result.test) for name in titles]
        rows.append([f"x {result.factor:g}", *cells, ", ".join(result.on_front)])
    console.show_table("Ranking and errors by the weights of the tasks", header, rows)


def _factors() -> list[float]:
    try:
        return [float(text) for text in WEIGHTS.value]
    except ValueError:
        raise ValueError(f"--weights must be numbers, got {','.join(WEIGHTS.value)}") from None


def main() -> None:
    config, folder = flags.config(), pathlib.Path(flags.workdir())
    print_results(config, run_weights(config, folder, _factors()))
    console.say(f"all metrics: {folder / 'pareto.json'}")
    console.say(f"report: {folder / 'report.html'}")


if __name__ == "__main__":
    flags.define_config()
    flags.define_workdir()
    flags.run(main)
