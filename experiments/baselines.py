"""Evaluates baselines on the data of an experiment, each tuned on its validation part.

    python -m experiments.baselines --config=configs/movielens_100k.py --workdir=runs/movielens_100k

`--baselines=ease,ials` names them. The folder may be that of a run of the config, whose table then has them all, or a
new one. A baseline that the folder has for the same data and settings is not evaluated again.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from absl import flags as absl_flags

from retrieval.baselines import BASELINES
from retrieval.common.choices import did_you_mean
from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.evaluation.protocol import Evaluation
from retrieval.pipeline.evaluate_trained import create_evaluation
from retrieval.pipeline.tune_baseline import (
    TunedBaseline,
    baseline_fingerprint,
    fit_baseline,
    possible_baselines,
    tune_baseline,
)

from .shared import console, flags, tables
from .shared.run_data import load_data
from .shared.workdir import Workdir

NAMES = absl_flags.DEFINE_list("baselines", None, f"Which, of {', '.join(BASELINES)}; none: all that the data allow.")


def evaluate_baselines(config: Config, workdir: Workdir, names: Sequence[str] | None) -> None:
    """Tunes and evaluates baselines, and adds their metrics to those in the folder.

    Raises:
      ValueError: a name is unknown, a baseline needs timestamps that the data lack, or the folder holds another run.
    """
    for name in names or ():
        if name not in BASELINES:
            known = ", ".join(BASELINES)
            raise ValueError(f"--baselines must be among {known}, got {name!r}{did_you_mean(name, BASELINES)}")
    workdir.check(config)
    dataset = load_data(config, workdir)
    evaluation = create_evaluation(config, dataset)
    for name in names or possible_baselines(dataset):
        fingerprint = baseline_fingerprint(name, config, dataset, evaluation)
        if workdir.read_baselines().get(name, {}).get("fingerprint") == fingerprint:
            console.say(f"{name}: done already")
            continue
        tuned = evaluate_baseline(name, config, dataset, evaluation, workdir)
        workdir.add_baseline(name, dataclasses.asdict(tuned) | {"fingerprint": fingerprint})


def evaluate_baseline(
    name: str, config: Config, dataset: Dataset, evaluation: Evaluation, workdir: Workdir
) -> TunedBaseline:
    """Tunes, fits and evaluates one baseline, adds its metrics and seconds to the folder, and returns its settings."""
    baseline, started = BASELINES[name], time.perf_counter()
    tuned = tune_baseline(baseline, config, dataset)
    tuned_at = time.perf_counter()
    scorer = fit_baseline(baseline, tuned.settings, config, dataset)
    fitted_at = time.perf_counter()
    result = evaluation.measure(evaluation.rank_by(scorer))
    evaluated_at = time.perf_counter()
    workdir.add_result(name, result)
    seconds = {"tune": tuned_at - started, "fit": fitted_at - tuned_at, "evaluate": evaluated_at - fitted_at}
    workdir.add_metrics({f"{name}/seconds/{stage}": value for stage, value in seconds.items()})
    console.say(f"{name}: {tuned.settings or 'no settings'}, fitted in {seconds['fit']:.1f} s")
    return tuned


def main() -> None:
    workdir = Workdir(flags.workdir())
    with workdir.claimed("evaluates baselines"):
        evaluate_baselines(flags.config(), workdir, NAMES.value)
    tables.print_metrics(workdir)
    console.say(f"all metrics: {workdir.metrics_file}")
    if workdir.report_file.exists():
        console.say(f"the report shows them after: python -m experiments.report --workdir={workdir.path}")


if __name__ == "__main__":
    flags.define_config()
    flags.define_workdir()
    flags.run(main)
