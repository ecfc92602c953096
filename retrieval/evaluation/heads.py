"""Evaluation of heads: predictions for held-out interactions against their labels, query by query."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from jaxtyping import Array, Float, Float64, Int

from retrieval.baselines.label_biases import PREDICTORS
from retrieval.config.schema import Task
from retrieval.data.encoding import Encoding
from retrieval.data.ids import Ids
from retrieval.data.interactions import Interactions
from retrieval.data.labels import Labels, labels_of
from retrieval.evaluation import pointwise_metrics
from retrieval.evaluation.per_query import Interval, PerQuery
from retrieval.evaluation.registry import metrics_of

PAIRS_A_CALL = 2**16  # whose embeddings are gathered at a time
Predictions = Mapping[str, Float[np.ndarray, "n"]]  # by the name of the task
Predict = Callable[[Float[Array, "m E"], Float[Array, "m E"]], Mapping[str, Float[Array, "m"]]]


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Held-out interactions with labels, as an evaluation asks them.

    Attributes:
      tasks: what is predicted.
      query_ids: raw ids of the distinct queries, ascending [Q].
      owners: which of them each interaction is of [n].
      positions: position of its candidate in the corpus [n].
      labels: of each task [n]; NaN where it is not known.
    """

    tasks: Sequence[Task]
    query_ids: Ids
    owners: Int[np.ndarray, "n"]
    positions: Int[np.ndarray, "n"]
    labels: Labels

    @classmethod
    def of(cls, tasks: Sequence[Task], encoding: Encoding, held_out: Interactions) -> Labelled:
        """Returns what is held out, without dislikes; its queries are those of `Encoding.targets`.

        Raises:
          ValueError: there are tasks, and the interactions have no ratings.
        """
        held_out = encoding.without_dislikes(held_out)
        query_ids, owners = np.unique(held_out.query_ids, return_inverse=True)
        positions = encoding.positions(held_out.candidate_ids)
        return cls(tasks, query_ids, owners, positions, labels_of(tasks, held_out.ratings))

    def by_heads(self, predict: Predict, queries: Float[Array, "Q E"], candidates: Float[Array, "N E"]) -> Predictions:
        """Returns what the heads of a model expect of each interaction [n]; O(n D) time.

        Args:
          predict: pairs of embeddings [m, E] -> what each head expects of them, by the name of the task.
          queries: embedding of each of the queries.
          candidates: embedding of each candidate of the corpus.
        """
        starts = range(0, max(len(self.owners), 1), PAIRS_A_CALL)
        pairs = [(self.owners[i : i + PAIRS_A_CALL], self.positions[i : i + PAIRS_A_CALL]) for i in starts]
        pieces = [predict(queries[owners], candidates[positions]) for owners, positions in pairs]
        return {name: np.concatenate([piece[name] for piece in pieces]) for name in self.labels}

    def by_baselines(self, encoding: Encoding, train: Interactions) -> dict[str, Predictions]:
        """Returns what each baseline expects, by its name: for all tasks of a kind that it is made for."""
        train = encoding.without_dislikes(train)
        seen = train.rows_in(encoding.queries, encoding.candidates)
        pairs = encoding.queries.rows(self.query_ids)[self.owners], encoding.corpus_rows[self.positions]
        predictions: dict[str, dict[str, Float64[np.ndarray, "n"]]] = {}
        labels = labels_of(self.tasks, train.ratings)
        for task in self.tasks:
            known = ~np.isnan(labels[task.name])
            for name, fit in PREDICTORS[task.kind].items():
                predict = fit(labels[task.name][known], *(rows[known] for rows in seen))
                predictions.setdefault(name, {})[task.name] = predict(*pairs)
        return predictions

    def measure(self, predictions: Predictions, test_set: str = "") -> PerQuery:
        """Computes the errors of predictions, query by query.

        Regression: `TASK/mse` and `TASK/mae`. Binary: `TASK/log_loss` and `TASK/auc`. See `pointwise_metrics`. All but
        the AUC are weighted by the query's number of known labels: their means are means over the interactions.

        Args:
          predictions: of some of the tasks, by name [n].
          test_set: names what is asked, see `PerQuery`.
        """
        values: dict[str, Float64[np.ndarray, "Q"]] = {}
        weights: dict[str, Float64[np.ndarray, "Q"]] = {}
        for task in self.tasks:
            if task.name not in predictions:
                continue
            known = ~np.isnan(self.labels[task.name])
            pairs = predictions[task.name][known], self.labels[task.name][known]
            owners, num_queries = self.owners[known], len(self.query_ids)
            for metric in metrics_of("prediction", task.kind):
                means, numbers = pointwise_metrics.means_by_query(metric.function(*pairs), owners, num_queries)
                values[f"{task.name}/{metric.name}"], weights[f"{task.name}/{metric.name}"] = means, numbers
            for metric in metrics_of("labels of a query", task.kind):
                values[f"{task.name}/{metric.name}"] = metric.function(*pairs, owners, num_queries)
        return PerQuery(self.query_ids, values, weights, test_set)


def with_roots(figures: Mapping[str, float]) -> dict[str, float]:
    """Returns figures with the root mean squared error beside each mean squared error.

    >>> with_roots({"rating/mse": 4.0})
    {'rating/mse': 4.0, 'rating/rmse': 2.0}
    """
    return dict(figures) | {_root(name): math.sqrt(value) for name, value in figures.items() if _has_root(name)}


def with_roots_of_intervals(intervals: Mapping[str, Interval]) -> dict[str, Interval]:
    """Returns intervals with those of the roots: percentiles of roots are roots of percentiles."""
    roots = {_root(name): tuple(map(math.sqrt, ends)) for name, ends in intervals.items() if _has_root(name)}
    return dict(intervals) | roots


def _has_root(name: str) -> bool:
    return name.endswith("/mse")


def _root(name: str) -> str:
    return name.removesuffix("mse") + "rmse"
