"""Writes the report of a trained run: `report.html` in its folder, and its plots as PNGs in `report/`.

    python -m experiments.report --workdir=runs/movielens_100k

It shows the files that the run has by then; `experiments.evaluate` and `experiments.baselines` add some.
"""

from __future__ import annotations

from retrieval.pipeline import search_and_fit
from retrieval.pipeline.index_trained import bundled_index

from ..shared import console, flags
from ..shared.run_data import load_data
from ..shared.workdir import Workdir
from . import write_report


def main() -> None:
    workdir = Workdir(flags.workdir())
    with workdir.claimed("writes the report"):
        config = workdir.read_config()
        dataset = load_data(config, workdir)
        trained = search_and_fit.restore(config, dataset, workdir.checkpoints, workdir.read_choice())
        index = bundled_index(config.index, trained, workdir.bundle)
        write_report(config, dataset, trained, index, workdir)
        console.say(f"report: {workdir.report_file}")


if __name__ == "__main__":
    flags.define_workdir()
    flags.run(main)
