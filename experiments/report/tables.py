"""Tables of the pages as data; `parts.html` turns them into HTML and escapes every text."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from retrieval.config import schema as config_lib
from retrieval.config.schema import Task
from retrieval.config.serialization import flatten
from retrieval.evaluation.registry import TITLES, metrics_of
from retrieval.index import Certificate, CurvePoint

from ..shared.labels import MODEL, PROTOCOLS, TASK_METRICS, best_of, interval_text, metric_label, number
from ..shared.workdir import training_seconds
from .records import Records

RANKING_METRICS = ("ndcg", "recall", "precision", "hit_rate", "mrr", "map")  # higher is better
LIST_METRICS = tuple(metric.name for metric in metrics_of("list"))  # no row is the best


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
      text: its content.
      role: how it looks: "best", "strong", "code", "quiet", or "" as the others.
      interval: under the text.
    """

    text: str
    role: str = ""
    interval: str = ""


MISSING = Cell("–", "quiet")


class HtmlTable(NamedTuple):
    """A table; the first cell of a row names it.

    Attributes:
      header: a name for each column.
      rows: as long as the header each.
      kind: its class in `page.css`: "figures" (numbers), "facts" or "parts" (texts).
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str | Cell]]
    kind: str = "figures"


def systems_table(records: Records, names: Sequence[str], best: bool) -> HtmlTable:
    """Returns systems in rows and metrics in columns, each with its interval.

    Args:
      records: those of the run.
      names: the metrics, without the system.
      best: whether the best of each column is marked, and the last column has the seconds of training.
    """
    tops = {name: _best(records, name) for name in names} if best else {}
    rows = []
    for system in records.systems if names else ():
        cells = [_metric_cell(records, f"{system}/{name}", system in tops.get(name, ())) for name in names]
        if best:
            seconds = training_seconds(records.metrics, system)
            cells.append(MISSING if seconds is None else Cell(f"{seconds:.1f}"))
        rows.append([Cell(records.title(system), "strong" if system == MODEL else ""), *cells])
    return HtmlTable(["", *map(metric_label, names), *(["training, s"] if best else [])], rows)


def predictions_table(records: Records, task: Task) -> HtmlTable:
    """Returns the systems that predict a task in rows and their errors in columns, each with its interval."""
    names = [f"{task.name}/{metric}" for metric in TASK_METRICS[task.kind]]
    systems = [key.removesuffix(f"/{names[0]}") for key in records.metrics if key.endswith(f"/{names[0]}")]
    rows = [
        [records.title(system), *(_metric_cell(records, f"{system}/{name}") for name in names)]
        for system in sorted(systems, key=lambda system: system != MODEL)
    ]
    return HtmlTable(["", *map(metric_label, names)], rows)


def main_names(records: Records) -> tuple[list[str], list[str]]:
    """Returns the metrics of the two main tables: of the ranking, and of the recommended lists."""
    protocols, ks = records.protocols(), records.ks("ndcg")
    if not protocols or not ks:
        return [], []
    k = 10 if 10 in ks else ks[0]
    known = {name.removeprefix(f"{MODEL}/") for name in records.metrics if name.startswith(f"{MODEL}/")}

    def names(metrics, suffix):
        return [name for metric in metrics if (name := f"{protocols[0]}/{metric}{suffix}") in known]

    ranking = names(RANKING_METRICS, f"_at_{k}") + names(["auc", "mean_rank"], "")
    return ranking, names(LIST_METRICS, f"_at_{k}")


def protocol_tables(records: Records) -> list[tuple[str, HtmlTable]]:
    """Returns for each protocol its heading and every metric: metrics in rows and systems in columns."""
    found = []
    for protocol in records.protocols():
        names = [name.removeprefix(f"{MODEL}/") for name in records.metrics if name.startswith(f"{MODEL}/{protocol}/")]
        rows = [
            [metric_label(name), *(_metric_cell(records, f"{system}/{name}") for system in records.systems)]
            for name in sorted(names, key=_order)
        ]
        heading = PROTOCOLS[protocol].capitalize()
        found.append((heading, HtmlTable(["", *map(records.title, records.systems)], rows)))
    return found


def _order(name: str) -> tuple[bool, int, int]:
    metric, _, k = name.split("/")[-1].partition("_at_")
    position = list(TITLES).index(metric) if metric in TITLES else len(TITLES)
    return "interactions" in name, position, int(k) if k.isdigit() else 0


def _best(records: Records, name: str) -> set[str]:
    """Returns the systems with the best value of a metric, see `best_of`."""
    values = {system: records.metrics.get(f"{system}/{name}", math.nan) for system in records.systems}
    return best_of(values, lowest=name.endswith("mean_rank"))


def _metric_cell(records: Records, name: str, is_best: bool = False) -> Cell:
    if name not in records.metrics:
        return MISSING
    interval = interval_text(records.intervals[name]) if name in records.intervals else ""
    return Cell(number(records.metrics[name]), "best" if is_best else "", interval)


def searches_table(certificate: Certificate) -> HtmlTable:
    """Returns the tried indexes in rows, the chosen one marked; a column has the items where their number differs."""
    curve, header = certificate.curve, ["", f"recall@{certificate.k}", "lower bound", "µs a query"]
    rows = [
        [
            setting_text(point) + (", chosen" if point == certificate.chosen else ""),
            number(point.recall),
            number(point.lower_bound),
            f"{point.microseconds:.3g}",
        ]
        for point in curve
    ]
    if len({point.num_candidates for point in curve}) > 1:
        header = [*header, "items"]
        rows = [[*row, f"{point.num_candidates:,}"] for row, point in zip(rows, curve, strict=True)]
    return HtmlTable(header, rows)


def setting_text(point: CurvePoint) -> str:
    """Returns the settings of a tried index as text."""
    if point.kind == "exact":
        return "exact"
    return f"{point.space.replace('_', ' ')}, M {point.M}, ef {point.ef}"


def config_table(config: config_lib.Config) -> HtmlTable:
    """Returns the fields of a config that differ from the defaults."""
    values, defaults = (flatten(dataclasses.asdict(c)) for c in (config, config_lib.Config()))
    rows = [
        [Cell(field, "code"), _code(values.get(field)), _code(defaults.get(field))]
        for field in sorted(values.keys() | defaults.keys())
        if values.get(field) != defaults.get(field)
    ]
    return HtmlTable(["field", "here", "default"], rows, "facts")


def facts_table(facts: Mapping[str, object]) -> HtmlTable:
    """Returns nested facts as rows of path and value."""
    return HtmlTable(["", ""], [[name, _code(value)] for name, value in flatten(facts).items()], "facts")


def _code(value: object) -> Cell:
    return Cell(value if isinstance(value, str) and value else repr(value), "code")
