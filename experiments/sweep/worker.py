"""A process that trains trials of a sweep; `experiments.sweep` starts it, and both end together.

python -m experiments.sweep.worker FOLDER WORKER LIMIT
"""

from __future__ import annotations

import os
import shutil
import sys
import threading

import jax
import optuna
from optuna.trial import TrialState

from retrieval.config.schema import Config
from retrieval.config.space import with_settings
from retrieval.data.dataset import Dataset, load
from retrieval.pipeline import search_and_fit
from retrieval.pipeline.phase import Record

from ..shared import compilation
from ..shared.flags import MISTAKES
from . import study as study_lib
from .folder import SweepFolder

KEPT = 25  # trials between clearings of the compiled programs in memory, about 4 MiB each


def work(folder: SweepFolder, worker: int, most: int) -> None:
    """Trains one trial after the other until the study has `most` trials; the data are loaded once.

    Raises:
      ValueError: some settings do not fit the config or the data.
    """
    config, space = folder.read()
    dataset = load(config.data)
    folder.check_data(dataset)
    study = study_lib.open_study(folder.journal, study_lib.WARMUP * config.train.evaluate_every)
    while trial := study_lib.claim(study, space, most, worker):
        if not study_lib.repeat(study, trial, space):
            own = with_settings(config, study_lib.settings_of(trial.params, space))
            run_trial(study, trial, own, dataset, folder)
        if trial.number % KEPT == KEPT - 1:
            jax.clear_caches()


def run_trial(study: optuna.Study, trial: optuna.Trial, config: Config, dataset: Dataset, folder: SweepFolder) -> None:
    """Trains the search phase of a config and reports each epoch to the study.

    The test part is not used, and no final phase follows.
    """
    config.train.refit = False
    values: dict[int, float] = {}

    def on_epoch(history: list[Record]) -> None:
        for record in history:  # several after a resume
            value = record.get(f"validation/{config.train.metric}")
            if value is not None and record["epoch"] not in values:
                values[record["epoch"]] = value
                trial.report(value, record["epoch"])
        if trial.should_prune():
            raise optuna.TrialPruned

    scratch = folder.checkpoints / str(study_lib.origin(trial))
    try:
        search_and_fit.train(config, dataset, scratch, on_epoch)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except FloatingPointError:
        trial.set_user_attr(study_lib.DIVERGED, True)
        study.tell(trial, state=TrialState.PRUNED)
    else:
        study.tell(trial, max(values.values()))
    shutil.rmtree(scratch, ignore_errors=True)


def _end_with_parent() -> None:
    """Ends this process at once when its standard input closes: when its parent ends, killed or not."""
    sys.stdin.read()
    os._exit(1)


def main() -> None:
    path, worker, most = sys.argv[1:]
    threading.Thread(target=_end_with_parent, daemon=True).start()
    compilation.keep()
    try:
        work(SweepFolder(path), int(worker), int(most))
    except MISTAKES as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
