"""The report of a run: one page that shows what was trained, how good it is, and how it was run."""

from __future__ import annotations

import matplotlib as mpl

from experiments.report import atlas, bars, curves, page
from experiments.report.findings import Findings, measure
from experiments.report.palette import SETTINGS, Plot, write_png
from experiments.report.records import Records
from experiments.report.searches import searches
from experiments.shared.workdir import Workdir
from retrieval.common.storage import write_atomically
from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.index import Searcher
from retrieval.pipeline.search_and_fit import Trained


def write_report(config: Config, dataset: Dataset, trained: Trained, index: Searcher, workdir: Workdir) -> None:
    """Writes `report.html`, and each of its figures as a PNG into `report/`.

    It shows what the run's programs have written by now, and what it measures itself in about a second.

    Raises:
      ValueError: the run is not trained yet.
    """
    records, findings = Records.read(workdir), measure(dataset, trained, index)
    workdir.report_figures.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(SETTINGS):
        plots = draw(records, findings, config.train.metric)
        for of_section in plots.values():
            for plot in of_section:
                write_png(plot, workdir.report_figures)
        write_atomically(workdir.report_file, page.build(config, records, findings, plots))


def draw(records: Records, findings: Findings, metric: str) -> dict[str, list[Plot]]:
    """Returns the figures that there are data for, by section of the page.

    `metric` is the one that decided the training, as in "excluding_seen/ndcg_at_10".
    """
    return {
        "results": curves.curves_over_k(records),
        "slices": bars.slice_bars(records, metric),
        "training": [*curves.validation_curve(records, metric), *curves.loss_curves(records)],
        "popularity": [bars.calibration(findings), bars.ranks(findings)],
        "map": atlas.atlas(findings.atlas),
        "index": [searches(findings.certificate)],
    }
