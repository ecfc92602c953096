"""A baseline on the data of an experiment: its settings chosen on the validation part, then fitted to be evaluated."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from retrieval.baselines import BASELINES, Baseline, Scorer, Training, content
from retrieval.baselines.search import climb
from retrieval.common.choices import did_you_mean
from retrieval.config.remedies import naming_fields
from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.evaluation.measure import measure
from retrieval.evaluation.protocol import Evaluation
from retrieval.ranking.ranking import ScoreRanker, rank_corpus


@dataclasses.dataclass(frozen=True)
class TunedBaseline:
    """The settings of a baseline.

    Attributes:
      settings: keyword arguments of `Baseline.fit`.
      validation: the metric of these settings on the validation part; None if nothing was searched.
      tried: how many settings were tried.
    """

    settings: Mapping[str, Any]
    validation: float | None
    tried: int


def possible_baselines(dataset: Dataset) -> list[str]:
    """Returns the names of the baselines that the data allow: some need timestamps, or attributes of the candidates."""
    before = [part for part in (dataset.parts.train, dataset.parts.validation) if part is not None]
    has_times = all(part.timestamps is not None for part in before)
    has_attributes = bool(content.attributes(dataset.corpus))
    return [
        name
        for name, baseline in BASELINES.items()
        if (has_times or not baseline.needs_timestamps) and (has_attributes or not baseline.needs_attributes)
    ]


@naming_fields()
def tune_baseline(baseline: Baseline, config: Config, dataset: Dataset) -> TunedBaseline:
    """Chooses the settings of a baseline on the validation part, by `train.metric` as for the model.

    Without a validation part, or without settings to choose, they are those that the search starts with.

    Raises:
      ValueError: there is no such metric, or the data lack what the baseline needs.
    """
    metric, validation = config.train.metric, dataset.parts.validation
    if validation is None or not baseline.axes:
        return TunedBaseline(dict(baseline.start), None, 0)
    training = Training.of(dataset.parts.train, dataset.corpus, config.data.dislike_at_most or None)
    evaluation = Evaluation.of(
        dataset.parts.train,
        validation,
        dataset.corpus,
        ks=config.evaluate.ks,
        dislike_at_most=config.data.dislike_at_most or None,
        repeats=not config.data.drop_duplicates,
    )

    def score(settings: Mapping[str, Any]) -> float:
        scorer = baseline.fit(training, **settings)
        ranker = ScoreRanker(scorer, evaluation.catalogue.histories, len(dataset.corpus))
        rankings = rank_corpus(ranker, evaluation.targets, k=0)
        metrics = measure(rankings, evaluation.targets, ks=evaluation.ks).means()
        if metric not in metrics:
            near = did_you_mean(metric, metrics)
            raise ValueError(f"train.metric must be one of {', '.join(metrics)}, got {metric!r}{near}")
        return metrics[metric]

    return TunedBaseline(*climb(score, baseline.axes, dict(baseline.start)))


@naming_fields()
def fit_baseline(baseline: Baseline, settings: Mapping[str, Any], config: Config, dataset: Dataset) -> Scorer:
    """Fits a baseline with these settings to all that comes before the test part."""
    before = dataset.parts.train_and_validation()
    return baseline.fit(Training.of(before, dataset.corpus, config.data.dislike_at_most or None), **settings)


def baseline_fingerprint(name: str, config: Config, dataset: Dataset, evaluation: Evaluation) -> str:
    """Returns the SHA-256 of all that decides the metrics of a baseline."""
    data = [evaluation.test_set, dataset.fingerprint.sha256]
    settings = [config.data.dislike_at_most, config.train.metric]
    ks = [list(config.evaluate.ks), list(config.evaluate.top_k_accuracies)]
    facts = [*data, *settings, *ks, name, dict(BASELINES[name].axes), dict(BASELINES[name].start)]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()
