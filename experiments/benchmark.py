"""Measures the system against plain references in the same run, and writes them as JSON.

    python -m experiments.benchmark --suite=engine --out=benchmark.json

Each measurement is a ratio to its own reference on the same machine; absolute times depend on the machine.
`--only=loss` measures only the benchmarks whose names begin with "loss".
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from absl import flags as absl_flags

from retrieval.common.storage import write_json

from .benchmarks import (
    baselines,
    evaluation,
    index,
    jobs,
    loading,
    losses,
    optimizer,
    peers,
    ranking,
    replicas,
    resume,
    streaming,
    uncertainty,
)
from .benchmarks.measure import Measurement, print_measurements
from .shared import console, flags

SUITES: dict[str, dict[str, Callable[[], Iterable[Measurement]]]] = {
    "engine": {
        "loss/folded": losses.folded,
        "loss/blocked": losses.blocked,
        "epoch/tutorial": losses.epoch,
        "optimizer/touched_rows": optimizer.touched_rows,
        "replicas": replicas.together,
        "resume/overhead": resume.overhead,
        "stream/epoch": streaming.epoch,
        "run/movielens_100k": jobs.movielens,
        "stream/memory": streaming.memory,
        "evaluate/ranks": ranking.ranks,
        "topk/exact": ranking.exact_top_k,
        "evaluate/movielens": ranking.movielens,
    },
    "evaluation": {
        "evaluation/tutorial": evaluation.movielens,
        "uncertainty/bootstrap": uncertainty.bootstrap,
        "baselines/ials": baselines.implicit_als,
        "baselines/large": baselines.large,
    },
    "index": {
        "index/search": lambda: index.search(cache=CACHE.value),
        "index/filtered": lambda: index.filtered(cache=CACHE.value),
        "index/update": lambda: index.update(cache=CACHE.value),
        "index/load": lambda: loading.load(cache=CACHE.value),
        "index/load_bundle": lambda: loading.load_bundle(cache=CACHE.value),
        "index/small": index.small,
        "index/beside": lambda: peers.beside(cache=CACHE.value),
    },
}
SUITE = absl_flags.DEFINE_enum("suite", "engine", SUITES, "What to measure.")
CACHE = absl_flags.DEFINE_string("cache", "", "Folder that keeps graphs, which take minutes to build; empty: none.")
ONLY = absl_flags.DEFINE_string("only", "", "Measure the benchmarks whose names begin so; empty: all.")


def main() -> None:
    out = flags.out()
    benchmarks = {name: run for name, run in SUITES[SUITE.value].items() if name.startswith(ONLY.value)}
    if not benchmarks:
        raise ValueError(f"--only={ONLY.value} fits none of {', '.join(SUITES[SUITE.value])}")
    measurements: list[Measurement] = []
    for run in benchmarks.values():
        for measurement in run():
            measurements.append(measurement)
            console.say(f"{measurement.name}: {measurement.ratio:.2f} ({measurement.reach})")
            if out:
                write_json(out, [dataclasses.asdict(measurement) for measurement in measurements])
    print_measurements(measurements)


if __name__ == "__main__":
    flags.define_out()
    flags.run(main)
