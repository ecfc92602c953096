"""Tables of the report, as HTML. Every text from data passes `escape`."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from experiments.report.findings import Example
from experiments.report.records import METRICS, MODEL, PROTOCOLS, Records, metric_label, number, system_label
from experiments.shared.workdir import training_seconds
from retrieval.config import schema as config_lib
from retrieval.config.schema import Task
from retrieval.index import Certificate, CurvePoint

OF_PREDICTIONS = {"regression": ("rmse", "mae"), "binary": ("log_loss", "auc")}  # by the kind of the task
RANKING = ("ndcg", "recall", "precision", "hit_rate", "mrr", "map")  # of lists; higher is better
OF_LISTS = ("coverage", "gini", "novelty", "diversity", "average_popularity", "popularity_lift")  # neither is better


def table(header: Sequence[str], rows: Iterable[Sequence[str]], kind: str = "") -> str:
    """Returns a table of cells that are HTML already, in a box that scrolls; the first cell of a row names it."""
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = "\n".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in others)}</tr>'
        for first, *others in rows
    )
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{body}</tbody></table></div>"
    )


def systems_table(records: Records, names: Sequence[str], best: bool) -> str:
    """Returns the systems in rows and metrics in columns, each figure over its interval.

    With `best` the best figures are marked, and the last column has the seconds that training took.
    """
    tops = {name: _best(records, name) for name in names} if best else {}
    rows = []
    for system in records.systems:
        label = escape(system_label(system))
        cells = [_figure(records, f"{system}/{name}", tops[name] == system if best else False) for name in names]
        if best:
            seconds = training_seconds(records.figures, system)
            cells.append('<span class="quiet">–</span>' if seconds is None else f"{seconds:.1f}")
        rows.append([f"<strong>{label}</strong>" if system == MODEL else label, *cells])
    header = ["", *(escape(metric_label(name)) for name in names), *(["training, s"] if best else [])]
    return table(header, rows, "figures")


def predictions_table(records: Records, task: Task) -> str:
    """Returns who predicts a task in rows and errors in columns, each over its interval; nothing where nobody does."""
    names = [f"{task.name}/{metric}" for metric in OF_PREDICTIONS[task.kind]]
    systems = [key.removesuffix(f"/{names[0]}") for key in records.figures if key.endswith(f"/{names[0]}")]
    rows = [
        [escape(system_label(system)), *(_figure(records, f"{system}/{name}", False) for name in names)]
        for system in sorted(systems, key=lambda system: system != MODEL)
    ]
    return table(["", *(escape(metric_label(name)) for name in names)], rows, "figures") if rows else ""


def main_names(records: Records) -> tuple[list[str], list[str]]:
    """Returns the metrics of the two main tables: of the ranking, and of what the lists are like."""
    protocols, ks = records.protocols(), records.ks("ndcg")
    if not protocols or not ks:
        return [], []
    k = 10 if 10 in ks else ks[0]
    known = {name.removeprefix(f"{MODEL}/") for name in records.figures if name.startswith(f"{MODEL}/")}

    def names(metrics, suffix):
        return [name for metric in metrics if (name := f"{protocols[0]}/{metric}{suffix}") in known]

    ranking = names(RANKING, f"_at_{k}") + names(["auc", "mean_rank"], "")
    return ranking, names(OF_LISTS, f"_at_{k}")


def all_figures(records: Records) -> str:
    """Returns every figure with its interval, metrics in rows and systems in columns, a table for each protocol."""
    parts = []
    for protocol in records.protocols():
        names = [name.removeprefix(f"{MODEL}/") for name in records.figures if name.startswith(f"{MODEL}/{protocol}/")]
        rows = [
            [escape(metric_label(name)), *(_figure(records, f"{system}/{name}", False) for system in records.systems)]
            for name in sorted(names, key=_order)
        ]
        header = ["", *(escape(system_label(system)) for system in records.systems)]
        parts.append(f"<h4>{PROTOCOLS[protocol].capitalize()}</h4>{table(header, rows, 'figures')}")
    return "".join(parts)


def _order(name: str) -> tuple[bool, int, int]:
    metric, _, k = name.split("/")[-1].partition("_at_")
    place = list(METRICS).index(metric) if metric in METRICS else len(METRICS)
    return "interactions" in name, place, int(k) if k.isdigit() else 0


def _best(records: Records, name: str) -> str | None:
    """Returns the system with the best figure; none where there is nothing to compare."""
    values = {
        system: records.figures[key]
        for system in records.systems
        if (key := f"{system}/{name}") in records.figures and math.isfinite(records.figures[key])
    }
    sign = -1 if name.endswith("mean_rank") else 1
    return max(values, key=lambda system: sign * values[system]) if len(values) > 1 else None


def _figure(records: Records, name: str, is_best: bool) -> str:
    if name not in records.figures:
        return '<span class="quiet">–</span>'
    text = number(records.figures[name])
    text = f'<span class="best" title="the best of the column">{text}</span>' if is_best else text
    if name not in records.intervals:
        return text
    return f'{text}<span class="interval">{interval_text(records.intervals[name])}</span>'


def interval_text(interval: Sequence[float]) -> str:
    """Returns an interval as it stands under a figure, with a decimal less."""
    return " – ".join(f"{end:.3f}" if abs(end) < 10 else number(end) for end in interval)


def searches_table(certificate: Certificate) -> str:
    """Returns what was tried in rows, the chosen one marked; where numbers of candidates differ, a column says them."""
    curve, header = certificate.curve, ["", f"recall@{certificate.k}", "lower bound", "µs a query"]
    named = [setting_text(p) + (", chosen" if p == certificate.chosen else "") for p in curve]
    rows = [
        [name, number(p.recall), number(p.lower_bound), f"{p.microseconds:.3g}"]
        for name, p in zip(named, curve, strict=True)
    ]
    if len({point.num_candidates for point in curve}) > 1:
        header = [*header, "candidates"]
        rows = [[*row, f"{point.num_candidates:,}"] for row, point in zip(rows, curve, strict=True)]
    return table(header, rows, "figures")


def setting_text(point: CurvePoint) -> str:
    """Returns what was searched with."""
    if point.kind == "exact":
        return "exact"
    return f"{point.space.replace('_', ' ')}, M {point.M}, ef {point.ef}"


def config_table(config: config_lib.Config) -> str:
    """Returns the fields of a config that differ from the defaults."""
    ours, defaults = (config_lib.flatten(dataclasses.asdict(c)) for c in (config, config_lib.Config()))
    rows = [
        [f"<code>{escape(field)}</code>", _code(ours.get(field)), _code(defaults.get(field))]
        for field in sorted(ours.keys() | defaults.keys())
        if ours.get(field) != defaults.get(field)
    ]
    return table(["field", "here", "default"], rows, "facts") if rows else "<p>Every field has its default.</p>"


def facts_table(facts: Mapping[str, object]) -> str:
    """Returns nested facts as rows of path and value."""
    rows = [[escape(name), _code(value)] for name, value in config_lib.flatten(facts).items()]
    return table(["", ""], rows, "facts")


def _code(value: object) -> str:
    return f"<code>{escape(value if isinstance(value, str) and value else repr(value))}</code>"


def example_card(example: Example) -> str:
    """Returns what a query has in train beside what is recommended to it, the hits marked."""
    attributes = " · ".join(f"{escape(name.replace('_', ' '))} {escape(v)}" for name, v in example.attributes.items())
    hits = sum(hit for _, hit in example.recommended)
    history = "".join(f"<li>{escape(title)}</li>" for title in example.history)
    recommended = "".join(
        f'<li class="hit">{escape(title)} <span class="tag">in test</span></li>' if hit else f"<li>{escape(title)}</li>"
        for title, hit in example.recommended
    )
    more = example.num_train - len(example.history)
    return f"""<article class="card example">
<h3>User {escape(example.query_id)}</h3>
<p class="quiet">{attributes}</p>
<div class="columns"><div><h4>In train <span class="quiet">{example.num_train:,}</span></h4>
<ul>{history}</ul>{f'<p class="quiet">and {more:,} more</p>' if more > 0 else ""}</div>
<div><h4>Recommended <span class="quiet">{hits} of {len(example.recommended)} in test</span></h4>
<ol>{recommended}</ol><p class="quiet">the test part has {example.num_test:,}</p></div></div></article>"""
