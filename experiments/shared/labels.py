"""Names of systems, metrics and protocols as readers know them, and numbers as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from retrieval.baselines import BASELINES
from retrieval.config.schema import Addition, Config
from retrieval.evaluation.registry import METRICS, TITLES
from retrieval.ranking.ranking import COLD, EXCLUDING_SEEN, INCLUDING_SEEN

MODEL, TOWERS, POPULARITY = "test", "towers", "popularity"  # as files name them; `TOWERS`: the model without additions
MODEL_TITLE = "two towers"  # without additions
SYSTEMS = {  # in the order of tables and curves; others follow, under their own names
    MODEL: MODEL_TITLE,
    TOWERS: "towers alone",
    **{name: baseline.title for name, baseline in BASELINES.items()},
}
PROTOCOLS = {
    EXCLUDING_SEEN: "items of train excluded",
    INCLUDING_SEEN: "nothing excluded",
    COLD: "among the items that train does not have",
}
TASK_METRICS = {  # kind of the task -> metrics of its predictions in tables; the RMSE stands for the MSE
    kind: tuple(metric.name for metric in METRICS if metric.kind == kind and metric.name != "mse")
    for kind in ("regression", "binary")
}
SIDES = {"queries": "users", "candidates": "items"}  # of slices
COLUMNS = {"activity": "interactions in train", "vocabulary": "presence in train"}
VALUES = {"known": "in train", "cold": "not in train"}  # of the column "vocabulary"


def model_title(config: Config) -> str:
    """Returns the name of the trained model of an experiment, with the models that are added to its towers.

    >>> config = Config()
    >>> model_title(config)
    'two towers'
    >>> config.model.additions = (Addition("ease"), Addition("recent_popularity"))
    >>> model_title(config)
    'towers + EASE + recent popularity'
    """
    titles = [addition_title(addition) for addition in config.model.additions]
    return " + ".join(["towers", *titles]) if titles else MODEL_TITLE


def addition_title(addition: Addition) -> str:
    """Returns the name of an addition as readers know it."""
    return "EASE" if addition.name == "ease" else addition.name.replace("_", " ")


def system_label(system: str, model: str = MODEL_TITLE) -> str:
    """Returns the name of a system as readers know it; `model` is that of the trained model."""
    if system == MODEL:
        return model
    return SYSTEMS[system] if system in SYSTEMS else system.replace("_", " ")


def metric_label(name: str) -> str:
    """Returns the name of a metric as readers know it.

    >>> metric_label("excluding_seen/ndcg_at_10"), metric_label("auc"), metric_label("interactions/mrr_at_5")
    ('nDCG@10', 'AUC', 'MRR@5, interactions')
    """
    *groups, last = name.split("/")
    metric, _, k = last.partition("_at_")
    if metric.endswith("_categorical_accuracy"):
        return f"top-{metric.split('_')[1]} categorical accuracy"
    label = TITLES[metric] if metric in TITLES else metric.replace("_", " ")
    label = f"{label}@{k}" if k else label
    return f"{label}, interactions" if "interactions" in groups else label


def slice_label(side: str, column: str, value: str) -> str:
    """Returns the name of a slice as readers know it.

    >>> slice_label("queries", "activity", "12 to 27"), slice_label("candidates", "vocabulary", "cold")
    ('users with 12 to 27 interactions in train', 'items not in train')
    >>> slice_label("candidates", "release_year", "1996")
    'items, release year: 1996'
    """
    if column == "activity":
        return f"{SIDES[side]} with {value} {COLUMNS[column]}"
    if column == "vocabulary":
        return f"{SIDES[side]} {value_label(column, value)}"
    return f"{SIDES[side]}, {column_label(column)}: {value}"


def column_label(column: str) -> str:
    """Returns the name of the column of a slice as readers know it."""
    return COLUMNS[column] if column in COLUMNS else column.replace("_", " ")


def value_label(column: str, value: str) -> str:
    """Returns the value of a slice as readers know it."""
    return VALUES[value] if column == "vocabulary" else value


def number(value: float) -> str:
    """Returns a number as text: four decimals, or fewer where it is large; "–" for NaN.

    >>> number(0.37141), number(71.26), number(1234567.0), number(float("nan"))
    ('0.3714', '71.3', '1,234,567', '–')
    """
    if value != value:
        return "–"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def interval_text(interval: Sequence[float]) -> str:
    """Returns an interval as text, with one decimal fewer than its metric; "no interval" where none holds.

    >>> interval_text((0.35512, 0.38893)), interval_text((99.91, 108.77))
    ('0.355 – 0.389', '99.9 – 108.8')
    >>> interval_text((math.nan, math.nan))
    'no interval'
    """
    if any(math.isnan(end) for end in interval):
        return "no interval"
    return " – ".join(f"{end:.3f}" if abs(end) < 10 else number(end) for end in interval)


def best_of(values: Mapping[str, float], *, lowest: bool = False) -> set[str]:
    """Returns all systems with the best value, which tables mark; none where all have the same.

    >>> sorted(best_of({"test": 0.4, "ease": 0.4, "random": 0.1, "content": math.nan}))
    ['ease', 'test']

    Args:
      values: of a metric by system; NaN: it has none.
      lowest: whether the lowest is the best.
    """
    known = {system: value for system, value in values.items() if math.isfinite(value)}
    best = (min if lowest else max)(known.values(), default=math.nan)
    found = {system for system, value in known.items() if value == best}
    return found if len(found) < len(known) else set()
