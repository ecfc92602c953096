"""Metrics of slices, with their intervals: groups of candidates and groups of queries."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64

from retrieval.common.lists import Lists
from retrieval.evaluation.bootstrap import weighted_means
from retrieval.evaluation.intervals import mean_intervals
from retrieval.evaluation.per_query import Interval, PerQuery
from retrieval.evaluation.ranking_metrics import Placed
from retrieval.evaluation.registry import Metric, metrics_of
from retrieval.evaluation.slices import Slice, restricted
from retrieval.ranking.ranking import Ranking

VALUES_AT_A_TIME = 2**24  # metrics x queries x slices in memory at once
SLICES_AT_A_TIME = 24  # at most: all resamples of each of their metrics are in memory


@dataclasses.dataclass(frozen=True)
class SliceMetrics:
    """The metrics of one slice.

    Attributes:
      side: "candidates" or "queries".
      column: the column that groups the slice.
      value: the group.
      num_queries: queries with something relevant in the slice.
      num_relevant: relevant candidates in the slice, over all queries.
      metrics: by name, as "excluding_seen/ndcg_at_10"; NaN where the slice is empty.
      intervals: intervals of the metrics, by name.
    """

    side: str
    column: str
    value: str
    num_queries: int
    num_relevant: int
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]

    def to_record(self) -> dict[str, Any]:
        """Returns the slice under the names that `slices.json` has."""
        return {
            "of": self.side,
            "column": self.column,
            "value": self.value,
            "num_queries": self.num_queries,
            "num_relevant": self.num_relevant,
            "figures": dict(self.metrics),
            "intervals": dict(self.intervals),
        }


class _SliceValues(NamedTuple):
    """The metrics of each query in one slice [Q, names], NaN where the query has nothing in it."""

    side: str
    slice: Slice
    num_relevant: int
    values: Float64[np.ndarray, "Q names"]


def sliced_metrics() -> tuple[Metric, ...]:
    """Returns the metrics that slices report."""
    return tuple(metric for metric in metrics_of("query") if metric.sliced)


def measure_slices(
    candidate_slices: Sequence[Slice],
    query_slices: Sequence[Slice],
    protocol: str,
    ranking: Ranking,
    relevant: Lists,
    per_query: PerQuery,
    *,
    ks: Sequence[int],
    resamples: int,
    level: float,
) -> list[SliceMetrics]:
    """Computes the metrics of each slice, and their intervals, see `registry.INTERVALS`.

    Args:
      candidate_slices: slices of the corpus: only the relevant candidates in the slice count, ranked among all.
      query_slices: slices of the queries.
      protocol: the protocol of `ranking`, with which the names of the metrics begin.
      ranking: the ranking of the corpus.
      relevant: the relevant candidates of each query.
      per_query: metrics of each query under the protocol.
      ks: lengths of the lists.
      resamples: resamples of the bootstrap.
      level: level of the intervals.
    """
    pairs = [(metric, k) for k in ks for metric in sliced_metrics()]
    names = [f"{protocol}/{metric.name}_at_{k}" for metric, k in pairs]
    size = max(1, min(SLICES_AT_A_TIME, VALUES_AT_A_TIME // max(1, len(relevant) * len(names))))
    sliced = itertools.chain(
        _slice_candidates(candidate_slices, ranking, relevant, pairs, size),
        _slice_queries(query_slices, per_query, relevant, names),
    )
    results = []
    while batch := list(itertools.islice(sliced, size)):
        results += _with_intervals(batch, names, resamples, level)
    return results


def _slice_candidates(
    slices: Sequence[Slice], ranking: Ranking, relevant: Lists, pairs: Sequence[tuple[Metric, int]], size: int
) -> Iterator[_SliceValues]:
    distinct, kept = relevant.distinct()
    list_ranks = ranking.list_ranks(relevant)[kept]
    for start in range(0, len(slices), size):
        batch = slices[start : start + size]
        lists, places = restricted(distinct, batch)
        placed, shape = Placed(list_ranks[places], lists), (len(batch), len(distinct))
        values = np.array([metric.function(placed, k).reshape(shape) for metric, k in pairs])
        lengths = lists.lengths.reshape(shape)
        values = np.where(lengths > 0, values, np.nan)
        for i, slice_ in enumerate(batch):
            yield _SliceValues("candidates", slice_, int(lengths[i].sum()), values[:, i].T)


def _slice_queries(
    slices: Sequence[Slice], per_query: PerQuery, relevant: Lists, names: Sequence[str]
) -> Iterator[_SliceValues]:
    """Yields the metrics of the queries in each slice of queries; NaN for the other queries."""
    columns, _ = per_query.columns(names)
    lengths = relevant.distinct()[0].lengths
    for slice_ in slices:
        values = np.where(slice_.members[:, None], columns, np.nan)
        yield _SliceValues("queries", slice_, int(lengths[slice_.members].sum()), values)


def _with_intervals(
    batch: Sequence[_SliceValues], names: Sequence[str], resamples: int, level: float
) -> list[SliceMetrics]:
    """Returns the metrics of some slices; all intervals come from the same resamples."""
    values = np.concatenate([sliced.values for sliced in batch], axis=1)
    bounds = mean_intervals(list(names) * len(batch), values, resamples=resamples, level=level)
    columns = zip(weighted_means(values).tolist(), *(bound.tolist() for bound in bounds), strict=True)
    results = []
    for sliced in batch:
        metrics, intervals = {}, {}
        for name, (mean, *interval) in zip(names, itertools.islice(columns, len(names)), strict=True):
            metrics[name], intervals[name] = mean, tuple(interval)
        column, value, _ = sliced.slice
        num_queries = int(np.sum(~np.isnan(sliced.values).all(axis=1)))
        results.append(SliceMetrics(sliced.side, column, value, num_queries, sliced.num_relevant, metrics, intervals))
    return results
