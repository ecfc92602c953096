"""The tables that the programs print."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from experiments.benchmarks.measure import Figure
from experiments.shared import console
from experiments.shared.workdir import MODEL, Workdir, training_seconds
from retrieval.config.schema import Task
from retrieval.evaluation.measure import COLD

COLUMNS = ("precision", "recall", "ndcg")
OF_LISTS = ("coverage", "gini", "novelty", "diversity", "average_popularity", "popularity_lift")
OF_PREDICTIONS = {  # by the kind of the task, and what readers call them
    "regression": {"rmse": "RMSE", "mae": "MAE"},
    "binary": {"log_loss": "log loss", "auc": "AUC"},
}
SHOWN_SLICES = ("popularity", "activity", "vocabulary")
PREFERRED_K = 10


def print_metrics(workdir: Workdir) -> None:
    """Prints the test figures of the model and of all baselines so far, with their intervals, and the main slices."""
    figures, intervals = workdir.read_metrics(), workdir.read_intervals()
    prefix = "excluding_seen" if any("/excluding_seen/" in name for name in figures) else "including_seen"
    ks = sorted({int(name.rpartition("_")[2]) for name in figures if f"/{prefix}/ndcg_at_" in name})
    if not ks:
        return
    of_metric = workdir.read_config().train.metric.rpartition("_at_")[2]
    k = next((k for k in ks if str(k) == of_metric), PREFERRED_K if PREFERRED_K in ks else ks[0])
    _print_systems(f"Test part, full corpus, {prefix.replace('_', ' ')}", figures, intervals, prefix, k)
    if any(f"/{COLD}/" in name for name in figures):
        _print_systems("Candidates that train does not know, among themselves", figures, intervals, COLD, k)
    _print_model(figures, intervals, prefix, k)
    _print_predictions(workdir.read_config().tasks, figures, intervals)
    _print_slices(workdir, prefix, k)


def _print_systems(title: str, figures: Mapping[str, float], intervals, prefix: str, k: int) -> None:
    ranked_by = f"{prefix}/ndcg_at_{k}"
    systems = [name.removesuffix(f"/{ranked_by}") for name in figures if name.endswith(f"/{ranked_by}")]
    systems = sorted((s for s in systems if s != "train"), key=lambda s: (s != MODEL, -figures[f"{s}/{ranked_by}"]))
    names = [f"{prefix}/{column}_at_{k}" for column in COLUMNS]
    rows = [
        [_title(s), *(_with_interval(f"{s}/{name}", figures, intervals) for name in names), _training(figures, s)]
        for s in systems
    ]
    best = {
        (max(range(len(systems)), key=lambda i: figures.get(f"{systems[i]}/{name}", -math.inf)), j)
        for j, name in enumerate(names, 1)
    }
    header = ["system", *(f"{'nDCG' if column == 'ndcg' else column}@{k}" for column in COLUMNS), "training, s"]
    title = f"{title}, with 95 % intervals over queries; * the best"
    console.show_table(title, header, rows, best if len(systems) > 1 else ())


def _print_model(figures: Mapping[str, float], intervals, prefix: str, k: int) -> None:
    names = [f"{prefix}/{name}_at_{k}" for name in ("hit_rate", "mrr", "map")]
    names += [f"{prefix}/auc", f"{prefix}/mean_rank", *(f"{prefix}/{name}_at_{k}" for name in OF_LISTS)]
    other = "including_seen" if prefix == "excluding_seen" else "excluding_seen"
    names += [f"{other}/{column}_at_{k}" for column in COLUMNS]
    names += [name.removeprefix(f"{MODEL}/") for name in figures if name.startswith(f"{MODEL}/factorized_top_k/")]
    rows = [
        [
            name.removeprefix(f"{prefix}/").replace("_", " "),
            *(_with_interval(f"{s}/{name}", figures, intervals) for s in (MODEL, "popularity")),
        ]
        for name in names
        if f"{MODEL}/{name}" in figures
    ]
    console.show_table("Other figures", ["figure", _title(MODEL), _title("popularity")], rows)


def _print_predictions(tasks: Sequence[Task], figures: Mapping[str, float], intervals) -> None:
    for task in tasks:
        names = [f"{task.name}/{metric}" for metric in OF_PREDICTIONS[task.kind]]
        systems = [name.removesuffix(f"/{names[0]}") for name in figures if name.endswith(f"/{names[0]}")]
        systems = sorted((s for s in systems if not s.startswith("train")), key=lambda s: s != MODEL)
        rows = [[_title(s), *(_with_interval(f"{s}/{name}", figures, intervals) for name in names)] for s in systems]
        header = ["prediction by", *OF_PREDICTIONS[task.kind].values()]
        console.show_table(f"Test part, {task.name}", header, rows)


def _print_slices(workdir: Workdir, prefix: str, k: int) -> None:
    names = [f"{prefix}/{column}_at_{k}" for column in ("recall", "ndcg")]
    rows = []
    for record in workdir.read_slices():
        if record["system"] == MODEL and record["column"] in SHOWN_SLICES:
            cells = [_with_interval(name, record["figures"], record["intervals"]) for name in names]
            what = f"{record['of']}: {record['column']} {record['value']}"
            rows.append([what, str(record["num_queries"]), str(record["num_relevant"]), *cells])
    console.show_table(
        "Slices of the model's figures", ["slice", "queries", "relevant", f"recall@{k}", f"nDCG@{k}"], rows
    )


def print_figures(figures: Sequence[Figure]) -> None:
    """Prints measured figures beside their references."""
    rows = [[f.name, f"{f.value:.4g}", f"{f.reference:.4g}", f.unit, f"{f.ratio:.2f}", f.reach] for f in figures]
    console.show_table("Measured", ["name", "value", "reference", "unit", "ratio", "to reach"], rows)


def print_recommendations(query: str, seen: Sequence[str], recommended: Sequence[str]) -> None:
    """Prints what a query has in train beside what is recommended to it."""
    length = max(len(seen), len(recommended))
    columns = ([*titles, *[""] * (length - len(titles))] for titles in (seen, recommended))
    rows = [[str(i), *titles] for i, titles in enumerate(zip(*columns, strict=True), 1)]
    console.show_table(f"Query {query}", ["", "in train, latest first", "recommended"], rows)


def _title(system: str) -> str:
    return "model" if system == MODEL else system.replace("_", " ")


def _training(figures: Mapping[str, float], system: str) -> str:
    seconds = training_seconds(figures, system)
    return "" if seconds is None else f"{seconds:.1f}"


def _with_interval(name: str, figures: Mapping[str, float], intervals: Mapping[str, tuple[float, float]]) -> str:
    """Returns a figure with its interval; nothing where it is not there or not defined."""
    value, (low, high) = figures.get(name, math.nan), intervals.get(name, (math.nan, math.nan))
    if math.isnan(value):
        return ""
    return f"{value:.4f}" if math.isnan(low) else f"{value:.4f} [{low:.4f}, {high:.4f}]"
