"""Evaluates baselines on the data of an experiment, each tuned on its validation part.

    python -m experiments.baselines --config=configs/movielens_100k.py --workdir=runs/movielens_100k

`--baselines=ease,ials` names them. The folder may be that of a run of the config, whose table then has them all, or a
new one. What is there already for the same data and settings is left alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from typing import Any

from absl import flags as absl_flags

from experiments.evaluate import evaluation_of
from experiments.shared import console, flags, tables
from experiments.shared.run_data import load_data
from experiments.shared.workdir import Workdir
from retrieval.baselines import BASELINES, Baseline, Training, content
from retrieval.baselines.search import climb
from retrieval.common.choices import did_you_mean
from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.evaluation.measure import measure, rank_by
from retrieval.evaluation.protocol import Evaluation

NAMES = absl_flags.DEFINE_list("baselines", None, f"Which, of {', '.join(BASELINES)}; none: all that the data allow.")
Record = dict[str, Any]


def evaluate_baselines(config: Config, workdir: Workdir, names: Sequence[str] | None) -> None:
    """Tunes and evaluates baselines, and adds their figures to those in the folder.

    Raises:
      ValueError: a name is unknown, a baseline needs timestamps that are not there, or the folder holds another run.
    """
    for name in names or ():
        if name not in BASELINES:
            known = ", ".join(BASELINES)
            raise ValueError(f"--baselines must be among {known}, got {name!r}{did_you_mean(name, BASELINES)}")
    workdir.check(config)
    dataset = load_data(config, workdir)
    known = [part for part in (dataset.parts.train, dataset.parts.validation) if part is not None]
    has_times = all(part.timestamps is not None for part in known)
    evaluation = evaluation_of(config, dataset)
    has_attributes = bool(content.attributes(dataset.corpus))
    for name in names or [
        name
        for name, baseline in BASELINES.items()
        if (has_times or not baseline.by_time) and (has_attributes or not baseline.by_attributes)
    ]:
        baseline = BASELINES[name]
        fingerprint = _fingerprint(config, dataset, evaluation, name)
        if workdir.read_baselines().get(name, {}).get("fingerprint") == fingerprint:
            console.say(f"{name}: done already")
            continue
        record = tune(baseline, config, dataset)
        started = time.perf_counter()
        training = _training(config, dataset, refit=True)
        scorer = baseline.fit(training, **record["settings"])
        fitted = time.perf_counter()
        result = evaluation.measure(evaluation.rank_by(scorer))
        seconds = {"fit": fitted - started, "evaluate": time.perf_counter() - fitted, "tune": record.pop("seconds")}
        workdir.add_result(name, result)
        workdir.add_metrics({f"{name}/seconds/{stage}": value for stage, value in seconds.items()})
        workdir.add_baseline(name, record | {"fingerprint": fingerprint})
        console.say(f"{name}: {record['settings'] or 'no settings'}, fitted in {seconds['fit']:.1f} s")


def tune(baseline: Baseline, config: Config, dataset: Dataset) -> Record:
    """Returns the settings that are best on the validation part, by the metric that decides the model's training.

    Without a validation part, or anything to choose, they are those that the search begins with.
    """
    metric, validation = config.train.metric, dataset.parts.validation
    if validation is None or not baseline.axes:
        return {"settings": dict(baseline.start), "validation": None, "tried": 0, "seconds": 0.0}
    started = time.perf_counter()
    training = _training(config, dataset, refit=False)
    evaluation = Evaluation.of(
        dataset.parts.train,
        validation,
        dataset.corpus,
        ks=config.evaluate.ks,
        dislike_at_most=config.data.dislike_at_most or None,
        repeats=not config.data.drop_duplicates,
    )

    def score(settings: Record) -> float:
        histories, num_candidates = evaluation.catalogue.histories, len(dataset.corpus)
        rankings = rank_by(baseline.fit(training, **settings), histories, evaluation.targets, num_candidates, k=0)
        figures = measure(rankings, evaluation.targets, ks=evaluation.ks).figures()
        if metric not in figures:
            near = did_you_mean(metric, figures)
            raise ValueError(f"train.metric must be one of {', '.join(figures)}, got {metric!r}{near}")
        return figures[metric]

    settings, best, tried = climb(score, baseline.axes, dict(baseline.start))
    return {"settings": settings, "validation": best, "tried": tried, "seconds": time.perf_counter() - started}


def _training(config: Config, dataset: Dataset, refit: bool) -> Training:
    train = dataset.parts.train_and_validation() if refit else dataset.parts.train
    return Training.of(train, dataset.corpus, config.data.dislike_at_most or None)


def _fingerprint(config: Config, dataset: Dataset, evaluation: Evaluation, name: str) -> str:
    """Returns the SHA-256 of all that decides the figures of a baseline."""
    tables = [table.fingerprint() for table in (dataset.corpus, dataset.queries) if table is not None]
    asked = [evaluation.test_set, dataset.fingerprint(), *tables, config.data.dislike_at_most, config.train.metric]
    ks = [list(config.evaluate.ks), list(config.evaluate.top_k_accuracies)]
    facts = [*asked, *ks, name, dict(BASELINES[name].axes), dict(BASELINES[name].start)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def main() -> None:
    workdir = Workdir(flags.workdir())
    evaluate_baselines(flags.config(), workdir, NAMES.value)
    tables.print_metrics(workdir)
    console.say(f"all figures: {workdir.metrics_file}")
    if workdir.report_file.exists():
        console.say(f"the report shows them after: python -m experiments.report --workdir={workdir.path}")


if __name__ == "__main__":
    flags.define_config()
    flags.define_workdir()
    flags.run(main)
