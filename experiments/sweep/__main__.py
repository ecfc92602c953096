"""Searches for the best settings of an experiment on its validation part.

    python -m experiments.sweep --config=configs/movielens_100k.py --workdir=runs/sweep --trials=50

`get_space()` beside `get_config()` in the config file declares the fields that vary (see `retrieval.config.space`);
without it they are penalty, learning rate and batch size, around their values in the config. A trial is the search
phase of a training and never uses the test part. Poor trials end early. The same command resumes an interrupted sweep,
and adds trials with a larger `--trials`. It needs `pip install -e '.[sweep]'`.

It prints and writes the best settings as flags (`best.json`), all trials (`trials.jsonl`), and a page that shows the
effect of each setting (`sweep.html`, with its plots in `report/`).
"""

from __future__ import annotations

from absl import flags as absl_flags

from retrieval.common.choices import did_you_mean
from retrieval.config.schema import Config
from retrieval.config.space import Space, default_space

from ..shared import console, flags
from .folder import SweepFolder

TRIALS = absl_flags.DEFINE_integer("trials", 50, "Number of trials, with those of earlier commands.", 1, 100_000)
PROCESSES = absl_flags.DEFINE_integer("processes", 1, "Number of trainings at a time; they share the cores.", 1, 1024)
SPACE = absl_flags.DEFINE_list(
    "space", None, "Fields of the space to vary; the others stay as in the config. None: all."
)


def space_of(config: Config, declared: Space | None, fields: list[str] | None) -> Space:
    """Returns the named fields of the space that the config file declares, or of the default space without one.

    Raises:
      ValueError: a field is not in the space.
    """
    space = default_space(config) if declared is None else declared
    for field in fields or ():
        if field not in space:
            known = ", ".join(map(repr, space))
            raise ValueError(f"--space must be among {known}, got {field!r}{did_you_mean(field, space)}")
    return {field: space[field] for field in fields} if fields else space


def main() -> None:
    try:
        from . import search
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise ImportError("a sweep needs optuna: pip install -e '.[sweep]'") from None
    config, folder = flags.config(), SweepFolder(flags.workdir())
    space = space_of(config, flags.space(), SPACE.value)
    ranked = search.sweep(config, space, folder, TRIALS.value, PROCESSES.value)
    search.print_best(ranked, config.train.metric)
    paths = {"best": folder.best_file, "all trials": folder.trials_file, "report": folder.report_file}
    for content, path in paths.items():
        console.say(f"{content}: {path}")


if __name__ == "__main__":
    flags.define_config()
    flags.define_workdir()
    flags.run(main)
