"""The page of a sweep: the values that `sweep.html` shows."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl

from retrieval.common.storage import write_atomically
from retrieval.config.schema import Config
from retrieval.config.space import Space, as_flags, to_record

from ..report.document import Tile, render
from ..report.palette import SETTINGS, write_png
from ..report.tables import HtmlTable, config_table, facts_table
from ..shared.labels import metric_label, number
from . import plots
from .folder import SweepFolder, Trial

NUM_SHOWN = 15  # of the table


def write_sweep(config: Config, space: Space, folder: SweepFolder, trials: Sequence[Trial]) -> None:
    """Writes `sweep.html`, and each of its plots as a PNG into `report/`.

    Args:
      config: the experiment.
      space: the fields that vary.
      folder: that of the sweep.
      trials: one or more that have ended, in the order of their beginnings.
    """
    folder.report_plots.mkdir(exist_ok=True)
    metric, ranked = config.train.metric, sorted(trials, key=lambda trial: (-trial.best[1], trial.number))
    with mpl.rc_context(SETTINGS):
        by_trial = [plots.progress(trials, metric), plots.curves(trials, metric)]
        by_setting = [*plots.importances(trials, space), *plots.slices(trials, space, metric)]
        for plot in (*by_trial, *by_setting):
            write_png(plot, folder.report_plots)
        page = render(
            "sweep/sweep.html",
            title=f"Sweep of {config.name or 'an unnamed config'}",
            subtitle=f"{len(trials)} trials · {', '.join(space)}",
            tiles=_tiles(trials, ranked[0], metric),
            flags=" \\\n  ".join(as_flags(ranked[0].settings)),
            best=_best_table(ranked, metric),
            by_setting=by_setting,
            by_trial=by_trial,
            space=facts_table(_declared(space)),
            config=config_table(config),
            manifest=facts_table(folder.manifest()),
        )
        write_atomically(folder.report_file, page)


def _declared(space: Space) -> dict[str, str]:
    """Returns the declaration of each field as it stands in a config file."""
    return {field: f"{kind}({', '.join(map(repr, values))})" for field, (kind, *values) in to_record(space).items()}


def _tiles(trials: Sequence[Trial], best: Trial, metric: str) -> list[Tile]:
    counts = {state: sum(trial.state == state for trial in trials) for state in plots.STATES}
    seconds = sum(trial.seconds for trial in trials)
    epochs = sum(trial.curve[-1][0] for trial in trials)
    first, value = trials[0], best.best[1]
    return [
        Tile(f"best {metric_label(metric)}", number(value), [f"trial {best.number}, epoch {best.best[0]}"]),
        Tile("the first trial", number(first.best[1]), [f"the best has {value - first.best[1]:+.4f}"]),
        Tile("trials", f"{len(trials)}", [f"{count} {state}" for state, count in counts.items() if count]),
        Tile("training", f"{seconds:,.0f} s", [f"{epochs:,} epochs, all processes together"]),
    ]


def _best_table(ranked: Sequence[Trial], metric: str) -> HtmlTable:
    rows = [
        [
            str(trial.number),
            number(trial.best[1]),
            str(trial.best[0]),
            trial.state,
            *map(str, trial.settings.values()),
        ]
        for trial in ranked[:NUM_SHOWN]
    ]
    return HtmlTable(["trial", metric_label(metric), "epoch", "state", *ranked[0].settings], rows)
