"""The report of a run: one page that shows what was trained, how good it is, and how it was run."""

from __future__ import annotations

import itertools

import matplotlib as mpl

from retrieval.common.storage import write_atomically
from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.index import Searcher
from retrieval.pipeline.trained import Trained

from ..shared.workdir import Workdir
from . import bars, curves, maps, page
from .findings import Findings, measure_findings
from .palette import SETTINGS, Plot, write_png
from .records import Records
from .searches import search_plot


def write_report(config: Config, dataset: Dataset, trained: Trained, index: Searcher, workdir: Workdir) -> None:
    """Writes `report.html`, and each of its plots as a PNG into `report/`.

    It shows what the programs of the run have written so far, and findings that it measures itself in about a second.

    Raises:
      ValueError: the run is not trained yet.
    """
    records, findings = Records.read(workdir), measure_findings(dataset, trained, index)
    workdir.report_plots.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(SETTINGS):
        plots = draw(records, findings, config.train.metric)
        for plot in itertools.chain(*plots.values()):
            write_png(plot, workdir.report_plots)
        write_atomically(workdir.report_file, page.build(config, records, findings, plots))


def draw(records: Records, findings: Findings, metric: str) -> dict[str, list[Plot]]:
    """Returns the plots of each section of the page, without those that lack data.

    To add a plot, write a function that returns a `Plot` and name it here; `run.html` shows all plots of a section.

    Args:
      records: the files of the run.
      findings: what the report measures.
      metric: decided the training, as "excluding_seen/ndcg_at_10".
    """
    return {
        "results": curves.curves_over_k(records),
        "slices": bars.slice_bars(records, metric),
        "training": [*curves.validation_curve(records, metric), *curves.loss_curves(records)],
        "popularity": [bars.calibration(findings), bars.ranks(findings)],
        "map": maps.item_maps(findings.item_map),
        "index": [search_plot(findings.certificate)],
    }
