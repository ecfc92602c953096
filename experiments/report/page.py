"""The page of the report of a run."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping, Sequence
from html import escape

from experiments.report import bars, tables
from experiments.report.document import cards, document, figures, key_figures
from experiments.report.findings import Findings
from experiments.report.palette import Plot
from experiments.report.records import MODEL, POPULARITY, PROTOCOLS, Records, metric_label, number
from retrieval.config.schema import Config

SECTIONS = {
    "results": "Results",
    "slices": "Slices",
    "popularity": "Popularity and ranks",
    "map": "Candidates",
    "index": "Index",
    "examples": "Example users",
    "training": "Training",
    "run": "How it was run",
}


def build(config: Config, records: Records, findings: Findings, plots: Mapping[str, Sequence[Plot]]) -> str:
    """Returns the page.

    Args:
      config: that of the run.
      records: what its programs wrote.
      findings: what the report measured.
      plots: the figures of each section that has some.
    """
    contents = {
        "results": results(records, plots["results"]) + _predictions(config, records),
        "slices": slices(records, config.train.metric, plots["slices"]),
        "popularity": figures(plots["popularity"]),
        "map": figures(plots["map"]),
        "index": f'<div class="grid">{cards(plots["index"])}{tables.searches_table(findings.certificate)}</div>',
        "examples": _examples(findings),
        "training": figures(plots["training"]),
        "run": _run(config, records),
    }
    sections = {name: (SECTIONS[name], content) for name, content in contents.items()}
    title = config.name or "Unnamed run"
    return document(title, _subtitle(config, records, findings), _tiles(records, findings), sections)


def _subtitle(config: Config, records: Records, findings: Findings) -> str:
    data = config.data
    source = data.dataset or pathlib.Path(data.interactions or data.train).name
    parts = [
        source if data.train else f"{source}, {data.split.strategy} split",
        f"{findings.num_candidates:,} candidates",
        f"{findings.num_queries:,} test users",
        f"{config.model.embedding_dimension} dimensions",
        f"seed {config.train.seed}",
    ]
    return " · ".join(parts)


def _tiles(records: Records, findings: Findings) -> str:
    """Returns the key figures of the run."""
    names, _ = tables.main_names(records)
    tiles = []
    for name in names[:3]:
        key, popular = f"{MODEL}/{name}", f"{POPULARITY}/{name}"
        notes = [tables.interval_text(records.intervals[key])] if key in records.intervals else []
        if popular in records.figures and records.figures[popular] > 0:
            ratio = records.figures[key] / records.figures[popular]
            notes.append(f"{ratio:.2f} × most popular")
        tiles.append((metric_label(name), number(records.figures[key]), notes))
    index = findings.certificate
    notes = [tables.setting_text(index.chosen), f"{index.chosen.microseconds:.2g} µs a query"]
    tiles.append((f"index recall@{index.k}", number(index.recall), [", ".join(notes)]))
    if "seconds/total" in records.figures:
        train = records.figures["seconds/train"]
        tiles.append(("whole run", f"{records.figures['seconds/total']:.1f} s", [f"{train:.1f} s of it training"]))
    return key_figures(tiles)


def results(records: Records, plots: Sequence[Plot]) -> str:
    """Returns tables and curves of the systems, and what adds to them."""
    names, of_lists = tables.main_names(records)
    parts = []
    if names:
        protocol = PROTOCOLS[records.protocols()[0]]
        level = "Under each figure its 95 % bootstrap interval over users. " if records.intervals else ""
        caption = f"Means over the test users, full corpus, {protocol}. {level}The best of each column is marked. "
        caption += "Training includes the choice of settings or epochs on the validation part."
        parts.append(f'<p class="lead">{caption}</p>{tables.systems_table(records, names, best=True)}')
    notes = []
    if not records.intervals:
        notes.append(_missing("Intervals", "experiments.evaluate --workdir=…"))
    if not set(records.systems) - {MODEL, POPULARITY}:
        notes.append(_missing("Stronger baselines", "experiments.baselines --config=… --workdir=…"))
    if len(records.ks("recall")) < 2:
        notes.append('<p class="missing">Curves over k need several lengths in <code>evaluate.ks</code>.</p>')
    parts += [*notes, figures(plots)]
    if of_lists:
        lead = "What the lists are like: no value is the best for everybody."
        parts.append(f'<h3>Lists</h3><p class="lead">{lead}</p>{tables.systems_table(records, of_lists, best=False)}')
    if names:
        parts.append(f"<details><summary>All figures</summary>{tables.all_figures(records)}</details>")
    return "\n".join(parts)


def _predictions(config: Config, records: Records) -> str:
    """Returns how far the heads are off, beside what knows less."""
    parts = []
    for task in config.tasks:
        lead = f"{task.name} of the test interactions, as the model's head and as simpler predictions expect it."
        content = tables.predictions_table(records, task)
        parts.append(f'<h3>{escape(task.name)}</h3><p class="lead">{escape(lead)}</p>{content}')
    return "".join(parts)


def _missing(what: str, command: str) -> str:
    adds = f"<code>python -m {escape(command)}</code>, then <code>python -m experiments.report --workdir=…</code>"
    return f'<p class="missing">{what} are not here yet: {adds}, adds them.</p>'


def slices(records: Records, metric: str, plots: Sequence[Plot]) -> str:
    """Returns the figures of the slices, or what adds them."""
    if not plots:
        return _missing("Slices", "experiments.evaluate --workdir=…")
    lead = (
        f"{metric_label(bars.slice_metric(records, metric))} by slice. Bars: this model, with 95 % intervals over "
        "users; squares: most popular. What train does not know has its own line."
    )
    return f'<p class="lead">{escape(lead)}</p>{figures(plots)}'


def _examples(findings: Findings) -> str:
    if not findings.examples:
        return "<p>No user of the test part is known in train.</p>"
    cards = "\n".join(map(tables.example_card, findings.examples))
    lead = (
        "Users at the fifths of the number of hits: typical ones, not the best. What is in train is never "
        "recommended; what is marked is in the user's test part."
    )
    return f'<p class="lead">{lead}</p><div class="grid">{cards}</div>'


def _run(config: Config, records: Records) -> str:
    seconds = {name: round(value, 3) for name, value in records.figures.items() if name.startswith("seconds/")}
    facts = {**records.manifest, **seconds}
    others = {k: v for k, v in records.figures.items() if k.startswith(("index/", "test/loss")) and math.isfinite(v)}
    return (
        f'<div class="grid"><div><h3>Differs from the defaults</h3>{tables.config_table(config)}</div>'
        f"<div><h3>Manifest</h3>{tables.facts_table({**facts, **others})}</div></div>"
    )
