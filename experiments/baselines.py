"""Evaluates baselines on the data of an experiment, each tuned on its validation part.

    python -m experiments.baselines --config=configs/movielens_100k.py --workdir=runs/movielens_100k

`--baselines=ease,ials` names them. The folder may be that of a run of the config, whose table then has them all, or a
new one. A baseline that the folder has for the same data and settings is not evaluated again.
"""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags as absl_flags

from retrieval.baselines import BASELINES
from retrieval.common.choices import did_you_mean
from retrieval.config.schema import Config
from retrieval.pipeline.tune_baseline import possible_baselines

from .shared import baseline_runs, console, flags, tables
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
    names = names or possible_baselines(dataset)
    baseline_runs.evaluate_baselines(config, dataset, workdir, names, tuned=True)


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
