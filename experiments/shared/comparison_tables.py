"""Tables of several runs: comparisons of systems, and seeds of one config."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from retrieval.evaluation.comparison import SeedSummary

from . import console

SIGNIFICANT = 0.05
SHOWN = tuple(  # ends of the names in the table of seeds
    f"{prefix}/{metric}"
    for prefix in ("excluding_seen", "including_seen")
    for metric in ("precision_at_10", "recall_at_10", "ndcg_at_10")
) + ("top_100_categorical_accuracy",)


def print_comparisons(result: Mapping[str, Any]) -> None:
    """Prints the result of `experiments.compare`: a table for each metric, the reference first.

    Columns: "sd seeds", the standard deviation of the mean over seeds; "se users", its standard error over users;
    "p swap", of the permutation test; "p boot", of the bootstrap; "Holm", "p swap" corrected for all comparisons.
    """
    header = ["system", "mean", "sd seeds", "se users", "difference", "p swap", "p boot", "Holm", "users"]
    for metric in result["metrics"]:
        rows, marked = [], []
        comparisons = {c["system"]: c for c in result["comparisons"] if c["metric"] == metric}
        for name, system in result["systems"].items():
            row = [name, *(_number(system["figures"][metric][part]) for part in ("mean", "sd", "query_error"))]
            if c := comparisons.get(name):
                ends = (_number(c[end], "+") for end in ("low", "high"))
                interval = "no interval" if math.isnan(c["low"]) else f"[{', '.join(ends)}]"
                row.append(f"{_number(c['difference'], '+')} {interval}".strip())
                row += [_number(c[p]) for p in ("permutation_p", "bootstrap_p", "holm_permutation_p")]
                row.append(str(c["num_queries"]))
                if c["holm_permutation_p"] < SIGNIFICANT:
                    marked.append((len(rows), header.index("Holm")))
            rows.append(row + [""] * (len(header) - len(row)))
        title = f"{metric} beside {result['reference']}, with 95 % intervals; * significant after Holm's correction"
        console.show_table(title, header, rows, marked)


def print_seeds(summary: Mapping[str, SeedSummary], num_seeds: int) -> None:
    """Prints the main metrics over seeds: mean, spread over seeds, and standard error over users."""
    rows = [
        [name, *(_number(value) for value in (metric.mean, metric.sd, metric.query_error))]
        for name, metric in summary.items()
        if name.endswith(SHOWN) and not name.startswith("train/")
    ]
    console.show_table(f"{num_seeds} seeds", ["metric", "mean", "sd of seeds", "standard error over users"], rows)


def _number(value: float, sign: str = "") -> str:
    return "" if math.isnan(value) else f"{value:{sign}.4f}"
