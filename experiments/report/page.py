"""The page of the report of a run: the values that `run.html` shows."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Mapping, Sequence

from retrieval.config.schema import Config
from retrieval.models.history import ENCODERS

from ..shared.labels import MODEL, POPULARITY, PROTOCOLS, TOWERS, interval_text, metric_label, number
from . import bars, tables
from .document import Tile, render
from .findings import Findings
from .palette import Plot
from .records import Records


def build(config: Config, records: Records, findings: Findings, plots: Mapping[str, Sequence[Plot]]) -> str:
    """Returns the page.

    Args:
      config: that of the run.
      records: the files of its programs.
      findings: what the report measured.
      plots: by section, as `experiments.report.draw` returns them.
    """
    ranking, lists = tables.main_names(records)
    return render(
        "report/run.html",
        title=config.name or "Unnamed run",
        subtitle=_subtitle(config, records, findings),
        tiles=_tiles(records, findings),
        model=records.model,
        plots=plots,
        protocol="".join(PROTOCOLS[name] for name in records.protocols()[:1]),
        ranking=tables.systems_table(records, ranking, best=True),
        lists=tables.systems_table(records, lists, best=False),
        protocols=tables.protocol_tables(records),
        predictions=[(task.name, tables.predictions_table(records, task)) for task in config.tasks],
        has_intervals=bool(records.intervals),
        has_baselines=bool(set(records.systems) - {MODEL, TOWERS, POPULARITY}),
        has_curves=len(records.ks("recall")) > 1,
        slice_metric=bars.slice_metric(records, config.train.metric),
        searches=tables.searches_table(findings.certificate),
        examples=findings.examples,
        config=tables.config_table(config),
        facts=tables.facts_table(_facts(records)),
    )


def _subtitle(config: Config, records: Records, findings: Findings) -> str:
    data = config.data
    source = data.dataset or pathlib.Path(data.interactions or data.train).name
    parts = [
        records.model,
        *([ENCODERS[config.model.history.encoder].title] if config.model.history.encoder else []),
        source if data.train else f"{source}, {data.split.strategy} split",
        f"{findings.num_candidates:,} items",
        f"{findings.num_queries:,} test users",
        f"{config.model.embedding_dimension} dimensions",
        f"seed {config.train.seed}",
    ]
    return " · ".join(parts)


def _tiles(records: Records, findings: Findings) -> list[Tile]:
    """Returns the metrics to see first."""
    names, _ = tables.main_names(records)
    tiles = []
    for name in names[:3]:
        key, popular = f"{MODEL}/{name}", f"{POPULARITY}/{name}"
        notes = [interval_text(records.intervals[key])] if key in records.intervals else []
        if popular in records.metrics and records.metrics[popular] > 0:
            notes.append(f"{records.metrics[key] / records.metrics[popular]:.2f} × most popular")
        if f"{TOWERS}/{name}" in records.metrics:
            notes.append(f"{number(records.metrics[f'{TOWERS}/{name}'])} by the towers alone")
        tiles.append(Tile(metric_label(name), number(records.metrics[key]), notes))
    certificate = findings.certificate
    notes = [f"{tables.setting_text(certificate.chosen)}, {certificate.chosen.microseconds:.3g} µs a query"]
    tiles.append(Tile(f"index recall@{certificate.k}", number(certificate.recall), notes))
    if "seconds/total" in records.metrics:
        train = f"{records.metrics['seconds/train']:.1f} s of it training"
        tiles.append(Tile("whole run", f"{records.metrics['seconds/total']:.1f} s", [train]))
    return tiles


def _facts(records: Records) -> dict[str, object]:
    """Returns the manifest, the seconds of each stage, and the metrics that no other section shows."""
    seconds = {name: round(value, 3) for name, value in records.metrics.items() if name.startswith("seconds/")}
    others = {k: v for k, v in records.metrics.items() if k.startswith(("index/", "test/loss")) and math.isfinite(v)}
    return {**records.manifest, **seconds, **others}
