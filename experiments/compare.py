"""Compares evaluated runs query by query: differences with intervals, and p-values corrected for their number.

    python -m experiments.compare runs/a runs/b [runs/c ...] --metrics=excluding_seen/ndcg_at_10

Each argument is the workdir of a run, or a folder of several seeds of one config as `experiments.seeds` leaves it,
whose values are averaged query by query; RUN:SYSTEM names a baseline evaluated there, as runs/a:ease. The others are
compared with the first. Systems that were asked different things are refused. Intervals and p-values speak of other
queries, for these trainings as they are; the spread over seeds, and that over queries, stand apart beside the mean.

`--queries=vocabulary=cold` compares on the queries of a slice alone: here those that train does not know. It reads the
data of the first run.
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from absl import flags as absl_flags

from experiments.shared import comparison_tables, console, flags
from experiments.shared.systems import System, read_slice, read_system
from retrieval.common.choices import did_you_mean
from retrieval.common.storage import write_json
from retrieval.evaluation.comparison import check_comparable, compare, holm

METRICS = absl_flags.DEFINE_list(
    "metrics", None, "Metrics to compare; by default precision, recall and nDCG at 10, train excluded where it is."
)
RESAMPLES = absl_flags.DEFINE_integer("resamples", 10_000, "Resamples, and swaps, of the tests.", lower_bound=100)
QUERIES = absl_flags.DEFINE_string("queries", "", "Slice of the queries, COLUMN=VALUE as in slices.json; none: all.")
DEFAULT = ("precision_at_10", "recall_at_10", "ndcg_at_10")


def compare_systems(
    systems: Mapping[str, System], metrics: Sequence[str], *, resamples: int = 10_000
) -> dict[str, Any]:
    """Returns how the systems differ from the first, as it is written to JSON; p-values by Holm over all that is here.

    Raises:
      ValueError: systems were asked different things, or lack a metric.
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
    """Returns the metrics to compare: those named, or the default that there is.

    Raises:
      ValueError: one is not known, or there is no default.
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
    if flags.out():
        write_json(pathlib.Path(flags.out()), result)
        console.say(f"all figures: {flags.out()}")


if __name__ == "__main__":
    flags.define_out()
    flags.run_on(main)
