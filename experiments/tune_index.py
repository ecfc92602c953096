"""Shows how a corpus is best searched: recall and time of exact search and of graphs, on queries of its own bundle.

    python -m experiments.tune_index --bundle=runs/movielens_100k/bundle --target=0.99 --k=10
    python -m experiments.tune_index --workdir=runs/movielens_100k --kind=hnsw

Prints what was tried, what it would choose and why, and writes the curve as `index.png` and the certificate as
`index.json` into `--out` (none: `index/` beside the bundle). It changes no bundle: `experiments.export` chooses in the
same way, with the settings of the run's `config.index`; its flags, as `--index.target_recall=0.95`, override them.
"""

from __future__ import annotations

import pathlib
import time

import matplotlib as mpl
import numpy as np
from absl import flags as absl_flags

from retrieval.common.list_length import LARGEST_K
from retrieval.common.storage import write_json
from retrieval.config.fields import LARGEST
from retrieval.index import Certificate, tune
from retrieval.index.hnsw.hnsw_index import LIMITS
from retrieval.index.tuning import search
from retrieval.index.tuning.search import Choices
from retrieval.serving import bundle

from .report.palette import SETTINGS, write_png
from .report.searches import search_plot
from .shared import console, flags
from .shared.workdir import Workdir

BUNDLE = absl_flags.DEFINE_string("bundle", None, "Folder that experiments.export wrote.")
WORKDIR = absl_flags.DEFINE_string("workdir", None, "Folder of a run, whose bundle is read.")
TARGET = absl_flags.DEFINE_float("target", 0.99, "What the lower bound of the 95 % interval of recall@k must reach.")
K = absl_flags.DEFINE_integer("k", 10, "Length k of the lists whose recall is measured.", 1, LARGEST_K)
QUERIES = absl_flags.DEFINE_integer("queries", 4096, "How many of the queries are sampled at most.", 2, LARGEST)
KIND = absl_flags.DEFINE_enum(
    "kind", "", ["", "exact", "hnsw"], "The kind of index to choose; empty: exact search or a graph."
)
SEED = absl_flags.DEFINE_integer("seed", 0, "Of the sample of queries, and of the graphs.", *LIMITS["seed"])
THREADS = absl_flags.DEFINE_integer("threads", 0, "Threads that build a graph; 0: all of the machine.", 0, 65_536)
OUT = absl_flags.DEFINE_string("out", None, "Folder of what is found; none: `index` beside the bundle.")


def main() -> None:
    if (BUNDLE.value is None) == (WORKDIR.value is None):
        raise ValueError("one of --bundle and --workdir is needed, received both or neither")
    folder = pathlib.Path(BUNDLE.value) if BUNDLE.value else Workdir(WORKDIR.value).bundle
    search.check(k=K.value, target=TARGET.value, seed=SEED.value, threads=THREADS.value)
    recommender = bundle.load(folder)
    out = pathlib.Path(OUT.value) if OUT.value else folder.parent / "index"
    out.mkdir(parents=True, exist_ok=True)  # fails before the work, not after it
    known = recommender.queries.ids
    sample = np.sort(np.random.default_rng(SEED.value).permutation(len(known))[: QUERIES.value])
    index = tune(
        recommender.embeddings,
        recommender.embed_queries(known[sample]),
        clock=time.perf_counter,
        k=K.value,
        target=TARGET.value,
        seed=SEED.value,
        threads=THREADS.value,
        choices=Choices(KIND.value),
    )
    show(index.certificate)
    write_json(out / "index.json", index.certificate.to_record())
    with mpl.rc_context(SETTINGS):
        write_png(search_plot(index.certificate), out)
    console.say(f"curve: {out / 'index.png'}")


def show(certificate: Certificate) -> None:
    """Prints the settings that were tried, with recall and time, and which one was chosen and why."""
    rows = [
        [
            point.kind if point.kind == "exact" else point.space.replace("_", " "),
            *(str(setting) if setting else "" for setting in (point.M, point.ef_construction, point.ef)),
            f"{point.num_candidates:,}",
            f"{point.recall:.4f}",
            f"{point.lower_bound:.4f}",
            f"{point.microseconds:.1f}",
            "chosen" if point == certificate.chosen else "",
        ]
        for point in certificate.curve
    ]
    columns = [
        "",
        "M",
        "ef_construction",
        "ef",
        "candidates",
        f"recall@{certificate.k}",
        "lower bound",
        "µs a query",
        "",
    ]
    console.show_table("Index", columns, rows)
    console.say(f"chosen: {certificate.reason}")
    if certificate.num_queries:
        held_out = f"on {certificate.num_queries} queries that chose nothing"
        console.say(
            f"recall@{certificate.k} {held_out}: {certificate.recall:.4f}, at least {certificate.lower_bound:.4f}"
        )


if __name__ == "__main__":
    flags.run(main)
