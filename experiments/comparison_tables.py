"""The tables of several runs: systems against each other, and seeds of one config."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments import console
from retrieval.comparison import SeedSummary

SIGNIFICANT = 0.05
SHOWN = ("precision_at_10", "recall_at_10", "ndcg_at_10")  # of all figures of a system, in the table of seeds


def print_comparisons(result: Mapping[str, Any]) -> None:
    """Prints what `experiments.compare` found: for each metric the reference, and the others beside it."""
    header = ["metric", "system", "mean", "seeds", "sd of seeds", "difference", "95 % interval"]
    header += ["p, swaps", "p, bootstrap", "Holm", "queries"]
    rows, marked = [], []
    for metric in result["metrics"]:
        for name, system in result["systems"].items():
            figure = system["figures"][metric]
            row = [metric, name, _number(figure["mean"]), str(system["num_seeds"]), _number(figure["sd"])]
            found = [c for c in result["comparisons"] if (c["system"], c["metric"]) == (name, metric)]
            for c in found:
                row += [_number(c["difference"], "+"), f"[{_number(c['low'], '+')}, {_number(c['high'], '+')}]"]
                row += [_number(c[p]) for p in ("permutation_p", "bootstrap_p", "holm_permutation_p")]
                row.append(str(c["num_queries"]))
                if c["holm_permutation_p"] < SIGNIFICANT:
                    marked.append((len(rows), header.index("Holm")))
            rows.append(row + [""] * (len(header) - len(row)))
    title = f"Differences to {result['reference']}, query by query; * significant at {SIGNIFICANT:.0%} of all here"
    console.show_table(title, header, rows, marked)


def print_seeds(summary: Mapping[str, SeedSummary], num_seeds: int) -> None:
    """Prints the main figures over seeds: how far seeds move them, and how far other queries would."""
    names = [name for name in summary if name.startswith(("test/", "popularity/")) and _is_shown(name)]
    rows = [[name, *(_number(value) for value in _spreads(summary[name]))] for name in names]
    header = ["figure", "mean", "sd of seeds", "standard error of queries"]
    console.show_table(f"{num_seeds} seeds", header, rows)


def _is_shown(name: str) -> bool:
    return name.rpartition("/")[2] in SHOWN or "/factorized_top_k/" in name


def _spreads(summary: SeedSummary) -> Sequence[float]:
    return summary.mean, summary.sd, summary.query_error


def _number(value: float, sign: str = "") -> str:
    return "" if math.isnan(value) else f"{value:{sign}.4f}"
