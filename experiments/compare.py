"""Compares evaluated runs user by user: differences with intervals, and p-values corrected for their number.

    python -m experiments.compare runs/a runs/b [runs/c ...] --metrics=excluding_seen/ndcg_at_10

Each argument is the workdir of a run, or the folder of several seeds of one config that `experiments.seeds` writes,
whose values are averaged user by user; RUN:SYSTEM names a baseline of the run, as runs/a:ease. Every system is compared
with the first. Systems with different test sets are refused. Intervals and p-values are about other users, with the
trained models fixed; the spread over seeds and the spread over users stand beside the mean.

`--queries=vocabulary=cold` compares on one slice of the users: here those that are not in train. It reads the data of
the first run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags as absl_flags

from retrieval.common.choices import did_you_mean
from retrieval.common.storage import write_json
from retrieval.evaluation.comparison import check_comparable, compare, holm

from .shared import comparison_tables, console, flags
from .shared.systems import System, read_slice, read_system

METRICS = absl_flags.DEFINE_list(
    "metrics",
    None,
    "Metrics to compare; none: precision, recall and nDCG at 10, with the items of train excluded where possible.",
)
RESAMPLES = absl_flags.DEFINE_integer(
    "resamples", 10_000, "Number of resamples of the bootstrap and of swaps of the permutation test.", 100, 1_000_000
)
QUERIES = absl_flags.DEFINE_string("queries", "", "Slice of the users, COLUMN=VALUE as in slices.json; none: all.")
DEFAULT = ("precision_at_10", "recall_at_10", "ndcg_at_10")


def compare_systems(
    systems: Mapping[str, System], metrics: Sequence[str], *, resamples: int = 10_000
) -> dict[str, Any]:
    """Returns the differences from the first system as a JSON record; p-values are corrected by Holm over all of them.

    Raises:
      ValueError: systems have different test sets, or lack a metric.
    """
    check_comparable({name: system.per_query for name, system in systems.items()}, metrics)
    (reference, first), *others = systems.items()
    found = []
    for name, system in others:
        comparisons = compare(first.per_query, system.per_query, metrics, resamples=resamples)
        found += [{"system": name, "metric": m} | dataclasses.asdict(c) for m, c in comparisons.items()]
    for p_value in ("bootstrap_p", "permutation_p"):
        corrected = holm(np.array([c[p_value] for c in found], np.float64))
        for comparison, value in zip(found, corrected.tolist(), strict=True):
            comparison[f"holm_{p_value}"] = value
    return {
        "reference": reference,
        "metrics": list(metrics),
        "resamples": resamples,
        "systems": {name: _described(system, metrics) for name, system in systems.items()},
        "comparisons": found,
    }


def chosen_metrics(names: Sequence[str] | None, known: Collection[str]) -> list[str]:
    """Returns the metrics to compare: the named ones, or the default ones that the systems have.

    Raises:
      ValueError: a named metric is unknown, or the systems have no default one.
    """
    if names:
        for name in names:
            if name not in known:
                near = did_you_mean(name, known)
                raise ValueError(f"--metrics: there is no {name!r}{near}; there are {', '.join(sorted(known))}")
        return list(names)
    for prefix in ("excluding_seen", "including_seen"):
        if default := [f"{prefix}/{name}" for name in DEFAULT if f"{prefix}/{name}" in known]:
            return default
    raise ValueError(f"no metric at 10 is known; choose --metrics of {', '.join(sorted(known))}")


def _described(system: System, metrics: Sequence[str]) -> dict[str, Any]:
    summary = system.summary()
    return {"num_seeds": len(system.seeds), "figures": {name: dataclasses.asdict(summary[name]) for name in metrics}}


def main(arguments: list[str]) -> None:
    out = flags.out()
    if len(arguments) < 2:
        raise ValueError(f"give two runs or more to compare, got {' '.join(arguments) or 'none'}; see --help")
    if len(set(arguments)) < len(arguments):
        raise ValueError(f"give each run once, got {' '.join(arguments)}")
    systems = {name: read_system(name) for name in arguments}
    if QUERIES.value:
        query_ids = read_slice(arguments[0], QUERIES.value)
        systems = {name: system.take(query_ids) for name, system in systems.items()}
    known = set.intersection(*(set(system.per_query.values) for system in systems.values()))
    result = compare_systems(systems, chosen_metrics(METRICS.value, known), resamples=RESAMPLES.value)
    comparison_tables.print_comparisons(result)
    if out:
        write_json(out, result)
        console.say(f"all results: {out}")


if __name__ == "__main__":
    flags.define_out()
    flags.run_on(main)
