"""Metrics of each query, from rankings of the corpus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int, Int32

from retrieval.common.list_length import check_k
from retrieval.common.lists import Lists
from retrieval.data.encoding import Targets
from retrieval.evaluation import ranking_metrics
from retrieval.evaluation.per_query import PerQuery
from retrieval.evaluation.registry import INFLUENCE, metrics_of
from retrieval.ranking.ranking import COLD, INCLUDING_SEEN, EmbeddingRanker, Ranking, rank_corpus


class Catalogue(NamedTuple):
    """Facts of train and of the corpus that the metrics of recommended lists read.

    Attributes:
      counts: number of queries that have each candidate in train [N].
      num_queries: number of queries in train.
      histories: positions of the candidates that each query of the evaluation has in train, as sets, without dislikes.
      features: features that the diversity compares candidates by, as genres or embeddings [N, F]; None: no diversity.
    """

    counts: Int[np.ndarray, "N"]
    num_queries: int
    histories: Lists
    features: Float[np.ndarray, "N F"] | None = None


def evaluate(
    queries: Float[Array, "Q D"] | Float32[np.ndarray, "Q D"],
    candidates: Float[Array, "N D"] | Float32[np.ndarray, "N D"],
    targets: Targets,
    *,
    ks: Sequence[int],
    top_k_accuracies: Sequence[int] = (),
) -> dict[str, float]:
    """Returns the metrics of embeddings by name: those of `measure` except the metrics of lists.

    Args:
      queries: embedding of each query of `targets` [Q, D].
      candidates: embedding of each candidate of the corpus [N, D].
      targets: the relevant candidates of each query, and those that it has in train.
      ks: lengths k of the lists of the metrics at k.
      top_k_accuracies: lengths k of the top-k categorical accuracies.

    Raises:
      ValueError: a k is below 1, or an embedding is not finite.
    """
    check_ks([*ks, *top_k_accuracies])
    rankings = rank_corpus(EmbeddingRanker(queries, candidates), targets, k=0)
    return measure(rankings, targets, ks=ks, top_k_accuracies=top_k_accuracies).means()


def measure(
    rankings: Mapping[str, Ranking],
    targets: Targets,
    *,
    ks: Sequence[int],
    top_k_accuracies: Sequence[int] = (),
    catalogue: Catalogue | None = None,
    test_set: str = "",
) -> PerQuery:
    """Computes every metric of every query.

    Names begin with the protocol, see `ranking.rank_corpus`. After it comes, for each metric of `registry`:

    - `{name}_at_{k}` at the level query: each query counts once. Equal scores stand in the order of their rows.
    - `interactions/{name}_at_{k}` at the level interaction: the mean over the interactions.
    - `auc`, `mean_rank` at the level ranking; equal scores share the mean of their ranks.
    - `{name}_at_{k}` at the level list, with a `catalogue`, and not among the cold candidates.

    `cold_candidates/...` are means over the queries that a cold candidate is relevant to. Beside the protocols,
    `factorized_top_k/top_{k}_categorical_accuracy` is the share of interactions whose candidate is among the first k
    with nothing excluded; ties count as hits, as in TensorFlow Recommenders.

    Args:
      rankings: by protocol, see `ranking.rank_corpus`.
      targets: the targets that were ranked.
      ks: lengths k of the lists of the metrics at k.
      top_k_accuracies: lengths k of the top-k categorical accuracies.
      catalogue: facts of train and of the corpus; None: no metrics of lists.
      test_set: names the targets, see `PerQuery`.
    """
    values: dict[str, Float64[np.ndarray, "Q"]] = {}
    weights: dict[str, Float64[np.ndarray, "Q"]] = {}
    if INCLUDING_SEEN in rankings and top_k_accuracies:
        optimistic = ranking_metrics.Placed(rankings[INCLUDING_SEEN].ranks.optimistic, targets.relevant)
        for k in top_k_accuracies:
            name = f"factorized_top_k/top_{k}_categorical_accuracy"
            values[name] = ranking_metrics.interaction_hit_rate_at(optimistic, k)
            weights[name] = targets.relevant.lengths.astype(np.float64)
    for protocol, ranking in rankings.items():
        relevant = targets.cold.relevant if protocol == COLD else targets.relevant
        num_relevant = relevant.lengths.astype(np.float64)
        for name, column in _measure_ranks(ranking, relevant, ks):
            values[f"{protocol}/{name}"] = np.where(num_relevant > 0, column, np.nan) if protocol == COLD else column
            if name.startswith("interactions/"):
                weights[f"{protocol}/{name}"] = num_relevant
        if catalogue is not None and protocol != COLD:
            values |= {f"{protocol}/{name}": column for name, column in _measure_lists(ranking.lists, catalogue, ks)}
    return PerQuery(targets.query_ids, values, weights, test_set)


def _measure_ranks(
    ranking: Ranking, relevant: Lists, ks: Sequence[int]
) -> Iterator[tuple[str, Float64[np.ndarray, "Q"]]]:
    list_ranks = ranking.list_ranks(relevant)
    interactions = ranking_metrics.Placed(list_ranks, relevant)
    relevant, kept = relevant.distinct()  # a repeated interaction is no second hit of its query
    distinct = ranking_metrics.Placed(list_ranks[kept], relevant)
    for k in ks:
        for metric in metrics_of("query"):
            yield f"{metric.name}_at_{k}", metric.function(distinct, k)
        for metric in metrics_of("interaction"):
            yield f"interactions/{metric.name}_at_{k}", metric.function(interactions, k)
    mean_ranks = ranking_metrics.Placed(ranking.ranks.mean[kept], relevant)
    for metric in metrics_of("ranking"):
        yield metric.name, metric.function(mean_ranks, ranking.num_ranked)


def _measure_lists(
    lists: Int32[np.ndarray, "Q K"], catalogue: Catalogue, ks: Sequence[int]
) -> Iterator[tuple[str, Float64[np.ndarray, "Q"]]]:
    for k in ks:
        for metric in metrics_of("list"):
            column = metric.function(lists, catalogue, k)
            if column is not None:
                yield f"{metric.name}_at_{k}", _without_known_spread(column) if metric.interval == INFLUENCE else column


def _without_known_spread(influence: Float64[np.ndarray, "Q"]) -> Float64[np.ndarray, "Q"]:
    """Returns influence values; if all are equal, only the first: equal influence values do not estimate a spread."""
    if np.all(np.isclose(influence, influence[:1], rtol=1e-12)):
        return np.where(np.arange(len(influence)) == 0, influence, np.nan)
    return influence


def check_ks(ks: Sequence[int]) -> None:
    """Checks the lengths k of lists; lists of a corpus smaller than k are shorter.

    Raises:
      ValueError: a k is no integer, below 1 or above `LARGEST_K`.
    """
    for k in ks:
        check_k(k)
