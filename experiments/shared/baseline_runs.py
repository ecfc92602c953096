"""Baselines in the folder of a run: tuned, fitted, evaluated and kept."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import numpy as np

from retrieval.baselines import BASELINES
from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.evaluation.protocol import Evaluation
from retrieval.pipeline.evaluate_trained import create_evaluation
from retrieval.pipeline.tune_baseline import (
    TunedBaseline,
    baseline_fingerprint,
    fit_baseline,
    possible_baselines,
    tune_baseline,
)

from . import console
from .workdir import Workdir

STANDARD = ("item_knn_bm25", "content")  # beside every model: seconds where the data are small enough
PAIRS = 2**29  # pairs of interactions of one user, up to which neighbours of items take seconds and little memory
UNTUNED = "untuned:"  # begins the fingerprint of a baseline with the settings that a search starts with


def standard_baselines(dataset: Dataset) -> list[str]:
    """Returns the baselines that stand beside every model; those that the data do not allow are left out.

    Neighbours of items are left out too where they would take long, which is told.
    """
    names = [name for name in STANDARD if name in possible_baselines(dataset)]
    _, activity = np.unique(dataset.parts.train_and_validation().query_ids, return_counts=True)
    if (activity.astype(np.float64) ** 2).sum() > PAIRS:
        names.remove(STANDARD[0])
        title = BASELINES[STANDARD[0]].title
        console.say(f"{title} takes long on these data and is left out: experiments.baselines evaluates it")
    return names


def evaluate_baselines(
    config: Config, dataset: Dataset, workdir: Workdir, names: Sequence[str], *, tuned: bool
) -> None:
    """Evaluates baselines and adds their metrics to those in the folder, unless it has them for the same data.

    Args:
      config: the experiment.
      dataset: its data.
      workdir: the folder.
      names: in the registry of baselines.
      tuned: whether the settings are chosen on the validation part, else they are those that a search starts with. A
        tuned baseline in the folder stands for an untuned one.
    """
    evaluation = create_evaluation(config, dataset)
    for name in names:
        fingerprint = baseline_fingerprint(name, config, dataset, evaluation)
        wanted = fingerprint if tuned else UNTUNED + fingerprint
        is_measured = any(metric.startswith(f"{name}/") for metric in workdir.read_metrics())
        if is_measured and workdir.read_baselines().get(name, {}).get("fingerprint") in (fingerprint, wanted):
            console.say_progress(f"{name}: done already")
            continue
        settings = _evaluate(name, config, dataset, evaluation, workdir, tuned)
        workdir.add_baseline(name, dataclasses.asdict(settings) | {"fingerprint": wanted})


def _evaluate(
    name: str, config: Config, dataset: Dataset, evaluation: Evaluation, workdir: Workdir, tuned: bool
) -> TunedBaseline:
    """Fits and evaluates one baseline, adds its metrics and seconds to the folder, and returns its settings."""
    baseline, started = BASELINES[name], time.perf_counter()
    chosen = tune_baseline(baseline, config, dataset) if tuned else TunedBaseline(dict(baseline.start), None, 0)
    tuned_at = time.perf_counter()
    scorer = fit_baseline(baseline, chosen.settings, config, dataset)
    fitted_at = time.perf_counter()
    result = evaluation.measure(evaluation.rank_by(scorer))
    evaluated_at = time.perf_counter()
    workdir.add_result(name, result)
    seconds = {"tune": tuned_at - started, "fit": fitted_at - tuned_at, "evaluate": evaluated_at - fitted_at}
    workdir.add_metrics({f"{name}/seconds/{stage}": value for stage, value in seconds.items()})
    console.say_progress(f"{name}: {chosen.settings or 'no settings'}, fitted in {seconds['fit']:.1f} s")
    return chosen
