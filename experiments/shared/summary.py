"""What a run says at its end, on one screen: the model beside baselines, the epoch that was chosen, and the files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retrieval.config.schema import Config
from retrieval.evaluation.comparison import Comparison, compare, holm
from retrieval.pipeline.phase import VALIDATION, best_validated_epoch
from retrieval.pipeline.trained import SEARCH

from . import console
from .labels import MODEL, TOWERS, metric_label, model_title, system_label
from .tables import MAIN, shown_k, shown_protocol
from .workdir import Workdir, training_seconds

SIGNIFICANT = 0.05
RESAMPLES = 2000  # swaps of a paired test: p-values to .001
NAME = 24  # characters of the first column


def print_summary(config: Config, workdir: Workdir) -> None:
    """Prints the result of a finished run in less than 24 lines of 80 characters."""
    metrics = workdir.read_metrics()
    protocol, k = shown_protocol(metrics), shown_k(config, metrics)
    lines = []
    if k:
        names = [f"{protocol}/{metric}_at_{k}" for metric in MAIN]
        systems = _ranked(metrics, names[-1])
        differences = _differences(workdir, systems, names[-1])
        lines += _table(config, workdir, systems, names, differences)
        lines += _verdict(config, systems, names[-1], differences)
    lines += _choice(config, workdir.read_log(), workdir.read_choice().epoch)
    lines += _places(workdir, metrics)
    console.say("\n".join(lines))


def print_line(config: Config, workdir: Workdir, name: str) -> None:
    """Prints the result of a finished run in one line: metric of the model and of the best baseline, epoch, seconds."""
    metrics = workdir.read_metrics()
    protocol, k = shown_protocol(metrics), shown_k(config, metrics)
    parts = [f"epoch {workdir.read_choice().epoch}", f"{metrics.get('seconds/total', math.nan):.1f} s"]
    if k:
        metric = f"{protocol}/{MAIN[-1]}_at_{k}"
        best = next((s for s in _ranked(metrics, metric) if s not in (MODEL, TOWERS)), None)
        parts = [f"{metric_label(metric)} {metrics[f'{MODEL}/{metric}']:.4f}", *parts]
        parts += [] if best is None else [f"{system_label(best)} {metrics[f'{best}/{metric}']:.4f}"]
    console.say(f"{name}: {', '.join(parts)}")


def _ranked(metrics: Mapping[str, float], name: str) -> list[str]:
    """Returns the systems that have a metric: the model first, the others by it, the best first."""
    systems = [key.removesuffix(f"/{name}") for key in metrics if key.endswith(f"/{name}") and key.count("/") == 2]
    systems = [system for system in systems if system != "train"]
    return sorted(systems, key=lambda system: (system != MODEL, -metrics[f"{system}/{name}"]))


def _differences(workdir: Workdir, systems: Sequence[str], name: str) -> dict[str, tuple[Comparison, float]]:
    """Returns, for each other system, model minus system, and its p-value corrected by Holm over all of them."""
    model, others = workdir.read_per_query(MODEL), [system for system in systems if system != MODEL]
    found = [compare(workdir.read_per_query(s), model, [name], resamples=RESAMPLES)[name] for s in others]
    corrected = holm(np.array([comparison.permutation_p for comparison in found], np.float64))
    return dict(zip(others, zip(found, corrected.tolist(), strict=True), strict=True))


def _table(config, workdir, systems, names, differences) -> list[str]:
    """Returns the headline table: a line for each system."""
    metrics, intervals = workdir.read_metrics(), workdir.read_intervals()
    last = metric_label(names[-1])
    head = [*map(metric_label, names[:-1]), f"{last}, 95 % interval", "training"]
    lines = [f"{'':{NAME}} {head[0]:>13} {head[1]:>9} {head[2]:>22} {head[3]:>8}".rstrip()]
    best = max(systems, key=lambda system: metrics[f"{system}/{names[-1]}"])
    for system in systems:
        values = [metrics.get(f"{system}/{name}", math.nan) for name in names]
        low, high = intervals.get(f"{system}/{names[-1]}", (math.nan, math.nan))
        interval = "" if math.isnan(low) else f"[{low:.3f}, {high:.3f}]"
        seconds = training_seconds(metrics, system)
        mark = _mark(system, best, differences)
        cells = [f"{values[0]:13.4f}", f"{values[1]:9.4f}", f"{values[2]:.4f}{mark}{interval:>15}".rjust(22)]
        cells.append("" if seconds is None else f"{seconds:6.1f} s")
        title = system_label(system, model_title(config))
        lines.append(f"{title[:NAME]:{NAME}} {' '.join(cells)}".rstrip())
    num = int(metrics.get(f"{MODEL}/num_queries", 0))
    note = f"Test part of {num:,} users, whole corpus; * best, and significantly so" if num else ""
    return [*lines, *([note] if note else []), ""]


def _mark(system: str, best: str, differences) -> str:
    """Returns a star for the best system where it is the model and above all, or where the model is below it."""
    if system != best:
        return " "
    rivals = differences if system == MODEL else {system: differences[system]}
    return "*" if all(p < SIGNIFICANT for _, p in rivals.values()) else " "


def _verdict(config: Config, systems: Sequence[str], name: str, differences) -> list[str]:
    """Returns how the model stands to the best baseline; loud where it is below."""
    baselines = [system for system in systems if system not in (MODEL, TOWERS)]
    if not baselines:
        return []
    best = baselines[0]
    comparison, p = differences[best]
    title, rival, metric = model_title(config), system_label(best), metric_label(name)
    title = title[0].upper() + title[1:]
    size = f"{abs(comparison.difference):.4f}"
    chance = "" if math.isnan(p) else f", p {'< .001' if p < 0.001 else f'= {p:.3f}'.replace('0.', '.')}"
    if not p < SIGNIFICANT:
        return [f"{title} and {rival} are not told apart in {metric}: difference {comparison.difference:+.4f}{chance}."]
    if comparison.difference > 0:
        return [f"{title}: {size} of {metric} above {rival}, the best baseline{chance}."]
    return [
        f"WARNING: {title} is BELOW {rival}, by {size} of {metric}{chance}.",
        "  Serve the baseline, or improve the model first: see docs/evaluation.md.",
    ]


def _choice(config: Config, history: Sequence[Mapping[str, Any]], epoch: int) -> list[str]:
    """Returns which epoch was chosen, why training stopped, and a warning where it was the last that is allowed."""
    search, metric = [record for record in history if record["phase"] == SEARCH], config.train.metric
    if not any(name.startswith(VALIDATION) for record in search for name in record):
        return [f"Trained for {epoch} epochs, without a validation part to choose by."]
    best, last, most = best_validated_epoch(search, metric), search[-1]["epoch"], config.train.epochs
    value = next(record[VALIDATION + metric] for record in search if record["epoch"] == best)
    lines = [
        f"Epoch {best} of {most} was best: validation {metric_label(metric)} {value:.4f}"
        + (f"; {last - best} more brought none better." if last < most else "; all were tried.")
    ]
    if best == most:
        lines.append(f"WARNING: the last epoch was the best: raise --config.train.epochs above {most}.")
    if history[-1]["phase"] != SEARCH:
        lines.append("The model was then trained anew on train and validation, for as many epochs.")
    return lines


def _places(workdir: Workdir, metrics: Mapping[str, float]) -> list[str]:
    """Returns the seconds of the run and where its report and bundle are."""
    stages = ("train", "evaluate", "baselines", "report")
    seconds = [f"{stage} {metrics[f'seconds/{stage}']:.1f}" for stage in stages if f"seconds/{stage}" in metrics]
    recall = metrics.get("index/recall_at_10")
    lines = [f"Seconds: {', '.join(seconds)}; in all {metrics.get('seconds/total', math.nan):.1f}."]
    if recall is not None:
        lines.append(f"Index: recall@10 {recall:.4f} against exact search.")
    return [*lines, f"Bundle: {workdir.bundle}", f"Report: {workdir.report_file}"]
