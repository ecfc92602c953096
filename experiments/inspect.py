"""Shows the towers of an experiment: inputs, shapes and parameters of each part, in the shell and as a page.

    python -m experiments.inspect --config=configs/movielens_100k.py --out=towers.html

The model is built on the training and validation parts, as for the final training; nothing is trained.
"""

from __future__ import annotations

import pathlib

from absl import flags as absl_flags

from retrieval.pipeline.recipe import prepare_on

from .inspection.drawing import write_towers
from .inspection.facts import HEADER, inspect
from .shared import console, flags
from .shared.arguments import writable
from .shared.run_data import load_checked
from .shared.workdir import Workdir

WORKDIR = absl_flags.DEFINE_string("workdir", None, "Folder of a run of that config; the page is written there.")
OUT = absl_flags.DEFINE_string(
    "out", None, "HTML page with a drawing; none: towers.html in --workdir, where that is given."
)


def main() -> None:
    config, page = flags.config(), writable(OUT.value, ".html") if OUT.value else None
    if WORKDIR.value:
        Workdir(WORKDIR.value).check(config)
    dataset = load_checked(config)
    if WORKDIR.value:
        Workdir(WORKDIR.value).check_data(dataset)
    found = inspect(config, prepare_on(config, dataset, dataset.parts.train_and_validation()))
    console.show_table(config.name or "The towers", HEADER, found.rows())
    for about, fact in found.facts.items():
        console.say(f"{about}: {fact}")
    if page is None and WORKDIR.value:
        page = pathlib.Path(WORKDIR.value) / "towers.html"
    if page:
        write_towers(config, found, page)
        console.say(f"drawing: {page}")


if __name__ == "__main__":
    flags.define_config()
    flags.run(main)
