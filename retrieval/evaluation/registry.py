"""The registry of metrics: a new metric is a function in one of the files of metrics and an entry here.

`measure` computes every metric of the levels "query", "interaction", "ranking" and "list"; `heads` those of the level
"prediction"; slices, reports and tables read the rest of an entry.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

from retrieval.evaluation import list_metrics, pointwise_metrics, ranking_metrics

LEVELS = {  # level -> arguments of the function
    "query": "(placed, k): ranks of a query's distinct relevant candidates -> value of each query",
    "interaction": "(placed, k): ranks of a query's relevant interactions -> mean over them of each query",
    "ranking": "(placed, num_ranked): mean ranks and length of the whole list -> value of each query",
    "list": "(lists, catalogue, k): positions of the recommended candidates -> value of each query, or None",
    "prediction": "(predictions, labels): of interactions -> error of each interaction",
    "labels of a query": "(predictions, labels, owners, num_queries): of interactions -> value of each query",
    "root": "(mean,): mean squared error over all predictions -> its root",
}

BOUNDED, BOOTSTRAP, INFLUENCE = "bounded", "bootstrap", "influence"
INTERVALS = {  # kind -> which interval the mean of a metric has
    BOUNDED: "of values in [0, 1], exact for values of 0 and 1, for any number of queries: `bounded_mean`",
    BOOTSTRAP: "percentiles of a bootstrap over the queries, none below ten: `bootstrap`",
    INFLUENCE: "as bootstrap, of influence values, clipped to [0, 1], as the metric is no mean over queries",
}


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric and all that others ask of it.

    Attributes:
      name: as files name it: "{name}_at_{k}" at the levels query, interaction and list, else "{name}".
      title: as readers know it.
      level: one of `LEVELS`, which says the arguments of the function.
      function: the metric.
      higher_is_better: whether a higher value is better; None where neither is.
      sliced: whether slices report it; of the level query.
      interval: the interval of its mean, one of `INTERVALS`.
      kind: of metrics of predictions: the kind of the tasks.
    """

    name: str
    title: str
    level: str
    function: Callable[..., Any]
    higher_is_better: bool | None = True
    sliced: bool = False
    interval: str = BOOTSTRAP
    kind: str = ""


METRICS = (  # in the order of tables
    Metric("ndcg", "nDCG", "query", ranking_metrics.ndcg_at, sliced=True, interval=BOUNDED),
    Metric("recall", "recall", "query", ranking_metrics.recall_at, sliced=True, interval=BOUNDED),
    Metric("capped_recall", "capped recall", "query", ranking_metrics.capped_recall_at, interval=BOUNDED),
    Metric("precision", "precision", "query", ranking_metrics.precision_at, sliced=True, interval=BOUNDED),
    Metric("hit_rate", "hit rate", "query", ranking_metrics.hit_rate_at, sliced=True, interval=BOUNDED),
    Metric("mrr", "MRR", "query", ranking_metrics.reciprocal_rank_at, interval=BOUNDED),
    Metric("map", "MAP", "query", ranking_metrics.average_precision_at, interval=BOUNDED),
    Metric("ndcg", "nDCG", "interaction", ranking_metrics.interaction_ndcg_at, interval=BOUNDED),
    Metric("hit_rate", "hit rate", "interaction", ranking_metrics.interaction_hit_rate_at, interval=BOUNDED),
    Metric("mrr", "MRR", "interaction", ranking_metrics.interaction_reciprocal_rank_at, interval=BOUNDED),
    Metric("auc", "AUC", "ranking", ranking_metrics.auc, interval=BOUNDED),
    Metric(
        "mean_rank",
        "mean rank",
        "ranking",
        lambda placed, num_ranked: ranking_metrics.mean_rank(placed),
        higher_is_better=False,
    ),
    Metric("mse", "MSE", "prediction", pointwise_metrics.squared_errors, higher_is_better=False, kind="regression"),
    Metric("rmse", "RMSE", "root", math.sqrt, higher_is_better=False, kind="regression"),
    Metric("mae", "MAE", "prediction", pointwise_metrics.absolute_errors, higher_is_better=False, kind="regression"),
    Metric("log_loss", "log loss", "prediction", pointwise_metrics.log_losses, higher_is_better=False, kind="binary"),
    Metric("auc", "AUC", "labels of a query", pointwise_metrics.auc_by_query, kind="binary", interval=BOUNDED),
    Metric(
        "coverage",
        "coverage",
        "list",
        lambda lists, catalogue, k: list_metrics.coverage_at(lists, len(catalogue.counts), k),
        interval=INFLUENCE,
    ),
    Metric(
        "gini",
        "Gini",
        "list",
        lambda lists, catalogue, k: list_metrics.gini_at(lists, len(catalogue.counts), k),
        higher_is_better=False,
        interval=INFLUENCE,
    ),
    Metric(
        "novelty",
        "novelty",
        "list",
        lambda lists, catalogue, k: list_metrics.novelty_at(lists, catalogue.counts, catalogue.num_queries, k),
    ),
    Metric(
        "diversity",
        "diversity",
        "list",
        lambda lists, catalogue, k: (
            list_metrics.diversity_at(lists, catalogue.features, k)
            if catalogue.features is not None and k > 1
            else None
        ),
    ),
    Metric(
        "average_popularity",
        "mean popularity",
        "list",
        lambda lists, catalogue, k: list_metrics.average_popularity_at(lists, catalogue.counts, k),
        higher_is_better=None,
    ),
    Metric(
        "popularity_lift",
        "popularity lift",
        "list",
        lambda lists, catalogue, k: list_metrics.popularity_lift_at(lists, catalogue.counts, catalogue.histories, k),
        higher_is_better=None,
    ),
)
TITLES = {metric.name: metric.title for metric in METRICS}


def metrics_of(level: str, kind: str = "") -> tuple[Metric, ...]:
    """Returns the metrics of a level, in the order of tables.

    >>> [metric.name for metric in metrics_of("interaction")], [metric.name for metric in metrics_of("root")]
    (['ndcg', 'hit_rate', 'mrr'], ['rmse'])
    """
    if level not in LEVELS:
        raise ValueError(f"level must be one of {', '.join(LEVELS)}, got {level!r}")
    return tuple(metric for metric in METRICS if metric.level == level and kind in ("", metric.kind))


def metric_of(name: str) -> Metric | None:
    """Returns the entry of a name in files, of whatever protocol, task and k; None for a name of no metric.

    >>> metric_of("excluding_seen/interactions/ndcg_at_10").level, metric_of("rating/mae").title, metric_of("test/loss")
    ('interaction', 'MAE', None)
    """
    *groups, last = name.split("/")
    found = [metric for metric in METRICS if metric.name == last.partition("_at_")[0]]
    levels = [metric for metric in found if (metric.level == "interaction") == ("interactions" in groups)]
    return (levels or found or [None])[0]


def interval_kind(name: str) -> str:
    """Returns the kind of the interval of a metric, one of `INTERVALS`, from its name in files.

    >>> interval_kind("excluding_seen/hit_rate_at_10"), interval_kind("rating/mse"), interval_kind("own/metric")
    ('bounded', 'bootstrap', 'bootstrap')
    """
    if name.startswith("factorized_top_k/"):
        return BOUNDED
    metric = metric_of(name)
    return metric.interval if metric else BOOTSTRAP
