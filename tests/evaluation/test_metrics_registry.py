"""The registry of metrics, and those who read it."""

import numpy as np
import pytest

from experiments.shared.labels import metric_label
from retrieval.common.lists import Lists
from retrieval.config.checks import LOWER_IS_BETTER
from retrieval.data.encoding import Targets
from retrieval.evaluation import registry
from retrieval.evaluation.measure import evaluate
from retrieval.evaluation.registry import LEVELS, METRICS, Metric, metric_of, metrics_of


def test_every_entry_has_a_known_level_and_a_name_of_its_own():
    keys = [(metric.name, metric.level) for metric in METRICS]
    assert len(set(keys)) == len(keys)
    assert {metric.level for metric in METRICS} == set(LEVELS)
    assert all(metric.kind in ("regression", "binary") for metric in METRICS if metric.level in ("prediction", "root"))


def test_one_name_has_one_title():
    assert all(registry.TITLES[metric.name] == metric.title for metric in METRICS)


def test_the_config_refuses_to_choose_by_metrics_of_which_lower_values_are_better():
    of_validation = [metric for metric in METRICS if metric.level != "list"]  # lists are measured on test alone
    assert {metric.name for metric in of_validation if metric.higher_is_better is False} == set(LOWER_IS_BETTER)


def test_an_unknown_level_is_named():
    with pytest.raises(ValueError, match="level must be one of query, interaction, .*, got 'user'"):
        metrics_of("user")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("including_seen/ndcg_at_5", ("ndcg", "query")),
        ("cold_candidates/interactions/ndcg_at_5", ("ndcg", "interaction")),
        ("excluding_seen/gini_at_10", ("gini", "list")),
        ("rating/rmse", ("rmse", "root")),
    ],
)
def test_a_name_in_files_finds_its_entry(name, expected):
    metric = metric_of(name)
    assert (metric.name, metric.level) == expected


def test_a_new_metric_takes_one_entry(monkeypatch):
    def first_hit_at(placed, k):
        return (placed.best < 1).astype(np.float64)

    monkeypatch.setattr(registry, "METRICS", (*METRICS, Metric("first_hit", "first hit", "query", first_hit_at)))
    targets = Targets(np.arange(2), np.ones(2, np.int32), Lists.from_sequences([[0], [1]]), None)
    scores = np.array([[3, 2, 1], [3, 2, 1]], np.float32)
    found = evaluate(scores, np.eye(3, dtype=np.float32), targets, ks=(2,))
    assert found["including_seen/first_hit_at_2"] == 0.5


def test_titles_of_reports_are_those_of_the_registry():
    assert metric_label("excluding_seen/capped_recall_at_20") == "capped recall@20"
    assert all(metric_label(f"x/{metric.name}") == metric.title for metric in METRICS)
