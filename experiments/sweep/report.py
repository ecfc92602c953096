"""The page of a sweep: the best settings, what mattered, and how it was run."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import matplotlib as mpl

from experiments.report.document import document, figures, key_figures
from experiments.report.palette import SETTINGS, Plot, write_png
from experiments.report.records import metric_label, number
from experiments.report.tables import config_table, facts_table, table
from experiments.sweep import plots as sweep_plots
from experiments.sweep.folder import Folder, Trial
from retrieval.common.storage import write_atomically
from retrieval.config.schema import Config
from retrieval.config.space import Space, as_flags, to_record

NUM_SHOWN = 15  # of the table


def write_sweep(config: Config, space: Space, folder: Folder, trials: Sequence[Trial]) -> None:
    """Writes `sweep.html`, and each of its figures as a PNG into `report/`.

    Args:
      config: what the settings are of.
      space: what varies.
      folder: that of the sweep.
      trials: those that have ended, one or more, in the order of their beginnings.
    """
    folder.report_figures.mkdir(exist_ok=True)
    with mpl.rc_context(SETTINGS):
        metric = config.train.metric
        general = [sweep_plots.progress(trials, metric), sweep_plots.curves(trials, metric)]
        mattered = sweep_plots.importances(trials, space)
        by_setting = sweep_plots.slices(trials, space, metric)
        for plot in (*general, *mattered, *by_setting):
            write_png(plot, folder.report_figures)
        sections = {
            "best": ("Best settings", _best(trials, metric)),
            "mattered": ("What mattered", _mattered([*mattered, *by_setting])),
            "trials": ("Trials", figures(general)),
            "run": ("How it was run", _run(config, space, folder)),
        }
        title = f"Sweep of {config.name or 'an unnamed config'}"
        page = document(title, _subtitle(space, trials), _tiles(trials, metric), sections)
        write_atomically(folder.report_file, page)


def _subtitle(space: Space, trials: Sequence[Trial]) -> str:
    return f"{len(trials)} trials · {', '.join(space)}"


def _ranked(trials: Sequence[Trial]) -> list[Trial]:
    return sorted(trials, key=lambda trial: (-trial.best[1], trial.number))


def _tiles(trials: Sequence[Trial], metric: str) -> str:
    best, first = _ranked(trials)[0], trials[0]
    states = [sum(trial.state == state for trial in trials) for state in sweep_plots.STATES]
    notes = [f"{count} {state}" for state, count in zip(sweep_plots.STATES, states, strict=True) if count]
    seconds = sum(trial.seconds for trial in trials)
    epochs = sum(trial.curve[-1][0] for trial in trials)
    tiles = [
        (f"best {metric_label(metric)}", number(best.best[1]), [f"trial {best.number}, epoch {best.best[0]}"]),
        ("the first trial", number(first.best[1]), [f"the best is {best.best[1] - first.best[1]:+.4f} beside it"]),
        ("trials", f"{len(trials)}", notes),
        ("training", f"{seconds:,.0f} s", [f"{epochs:,} epochs, all processes together"]),
    ]
    return key_figures(tiles)


def _best(trials: Sequence[Trial], metric: str) -> str:
    ranked = _ranked(trials)
    header = ["trial", metric_label(metric), "epoch", "state", *(escape(field) for field in ranked[0].settings)]
    rows = [
        [str(t.number), number(t.best[1]), str(t.best[0]), t.state, *(escape(str(v)) for v in t.settings.values())]
        for t in ranked[:NUM_SHOWN]
    ]
    lead = (
        "Chosen on the validation part; the test part is not looked at. The best of many trials is flattered by "
        "chance: what counts is a run with these settings."
    )
    flags = escape(" \\\n  ".join(as_flags(ranked[0].settings)))
    return f'<p class="lead">{lead}</p><pre class="scroll">{flags}</pre>{table(header, rows, "figures")}'


def _mattered(plots: Sequence[Plot]) -> str:
    lead = "All trials by each setting, the other settings as they were. Triangles on the bottom are below it."
    return f'<p class="lead">{lead}</p>{figures(plots)}'


def _run(config: Config, space: Space, folder: Folder) -> str:
    declared = {field: f"{kind}({', '.join(map(repr, rest))})" for field, (kind, *rest) in to_record(space).items()}
    return (
        f'<div class="grid"><div><h3>Space</h3>{facts_table(declared)}</div>'
        f"<div><h3>Differs from the defaults</h3>{config_table(config)}</div>"
        f"<div><h3>Manifest</h3>{facts_table(folder.manifest())}</div></div>"
    )
