"""Evaluates the trained model of a run on its test part, beside the most-popular baseline.

python -m experiments.evaluate --workdir=runs/movielens_100k
"""

from __future__ import annotations

from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.pipeline import search_and_fit
from retrieval.pipeline.evaluate_trained import evaluate_trained
from retrieval.pipeline.trained import Trained

from .shared import console, flags, tables
from .shared.labels import MODEL, TOWERS
from .shared.run_data import load_data
from .shared.workdir import Workdir


def evaluate(config: Config, dataset: Dataset, trained: Trained, workdir: Workdir) -> None:
    """Evaluates a trained model and writes all metrics to the folder of the run; see `evaluate_trained`."""
    evaluated = evaluate_trained(config, dataset, trained)
    for name, result in evaluated.baselines.items():
        workdir.add_result(name, result)
    if evaluated.towers is not None:
        workdir.add_result(TOWERS, evaluated.towers)
    workdir.add_result(MODEL, evaluated.model)
    workdir.add_metrics(evaluated.metrics)


def main() -> None:
    workdir = Workdir(flags.workdir())
    with workdir.claimed("evaluates"):
        config = workdir.read_config()
        dataset = load_data(config, workdir)
        trained = search_and_fit.restore(config, dataset, workdir.checkpoints, workdir.read_choice())
        evaluate(config, dataset, trained, workdir)
        tables.print_metrics(workdir)
        console.say(f"all metrics: {workdir.metrics_file}")


if __name__ == "__main__":
    flags.define_workdir()
    flags.run(main)
