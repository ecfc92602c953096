"""Evaluation against the full corpus: embeddings -> exact ranks -> metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int, Int32

from retrieval.common.lists import Lists
from retrieval.data.encoding import Cold, Targets
from retrieval.evaluation import list_metrics, ranking_metrics
from retrieval.evaluation.per_query import PerQuery
from retrieval.ranking.ranking import Ranking, Scorer, rank_embeddings, rank_scores

USER_METRICS = {
    "hit_rate": ranking_metrics.hit_rate_at,
    "precision": ranking_metrics.precision_at,
    "recall": ranking_metrics.recall_at,
    "capped_recall": ranking_metrics.capped_recall_at,
    "ndcg": ranking_metrics.ndcg_at,
    "mrr": ranking_metrics.reciprocal_rank_at,
    "map": ranking_metrics.average_precision_at,
}
COLD = "cold_candidates"  # the prefix of figures on those that train does not know, ranked among themselves
INTERACTION_METRICS = {
    "hit_rate": ranking_metrics.interaction_hit_rate_at,
    "mrr": ranking_metrics.interaction_reciprocal_rank_at,
    "ndcg": ranking_metrics.interaction_ndcg_at,
}


class Catalogue(NamedTuple):
    """What train and metadata tell of the corpus, for the metrics of the lists.

    Attributes:
      counts: how many queries have each candidate in train [N].
      num_queries: how many queries train has.
      histories: positions of the candidates that each query of the evaluation has in train, as sets, without dislikes.
      features: what two candidates are compared by, as genres or embeddings [N, F]; None: no diversity is measured.
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
    """Returns the metrics of embeddings, by name; those of `measure` without the ones of the lists.

    Args:
      queries: embedding of each query of `targets` [Q, D].
      candidates: embedding of each candidate of the corpus [N, D].
      targets: what is relevant, and what the query has in train.
      ks: lengths of the lists that the user-level metrics look at.
      top_k_accuracies: likewise of the interaction-level accuracies.

    Raises:
      ValueError: a k is below 1, or an embedding is not finite.
    """
    check_ks([*ks, *top_k_accuracies])
    rankings = rank(queries, candidates, targets, k=0)
    return measure(rankings, targets, ks=ks, top_k_accuracies=top_k_accuracies).figures()


def exclusions_of(targets: Targets) -> dict[str, Lists | None]:
    """Returns what is taken out of each query's list, by the prefix that the figures have."""
    return {"including_seen": None} | ({} if targets.seen is None else {"excluding_seen": targets.seen.sets()})


def rank(
    queries: Float[Array, "Q D"] | Float32[np.ndarray, "Q D"],
    candidates: Float[Array, "N D"] | Float32[np.ndarray, "N D"],
    targets: Targets,
    *,
    k: int,
) -> dict[str, Ranking]:
    """Ranks the corpus for the queries of `targets`, with what they have in train and without.

    Where candidates that train does not know are relevant, all of these are ranked among themselves too.

    Args:
      queries: embedding of each query of `targets` [Q, D].
      candidates: embedding of each candidate of the corpus [N, D].
      targets: what is relevant, and what the query has in train.
      k: length of the lists that are kept.

    Raises:
      ValueError: an embedding is not finite.
    """
    _check_finite("query", queries)
    _check_finite("candidate", candidates)
    exclusions = exclusions_of(targets)
    rankings = rank_embeddings(queries, candidates, targets.relevant, list(exclusions.values()), k)
    found = dict(zip(exclusions, rankings, strict=True))
    if targets.cold is not None:
        positions, relevant = targets.cold
        (found[COLD],) = rank_embeddings(queries, candidates[positions], relevant, [None], 0)
    return found


def rank_by(scorer: Scorer, histories: Lists, targets: Targets, num_candidates: int, *, k: int) -> dict[str, Ranking]:
    """Ranks the corpus for the queries of `targets` by the scores of their histories, as `rank` does by embeddings.

    Args:
      scorer: histories of some queries -> scores of the whole corpus; see `baselines`.
      histories: positions of the candidates that each query of `targets` has in train.
      targets: what is relevant, and what is taken out.
      num_candidates: the size of the corpus.
      k: length of the lists that are kept.

    Raises:
      ValueError: a score is not finite.
    """
    exclusions = exclusions_of(targets)
    wanted = targets.relevant, list(exclusions.values()), k
    rankings = rank_scores(scorer, histories, num_candidates, *wanted)
    found = dict(zip(exclusions, rankings, strict=True))
    if targets.cold is not None:
        found[COLD] = _rank_cold_by(scorer, histories, targets.cold, num_candidates)
    return found


def _rank_cold_by(scorer: Scorer, histories: Lists, cold: Cold, num_candidates: int) -> Ranking:
    """Ranks the cold candidates, by scores that are asked for again only of the queries that they are relevant to."""
    asked = np.flatnonzero(cold.relevant.lengths > 0)

    def of_cold(histories: Lists) -> Float32[np.ndarray, "q M"]:
        return np.asarray(scorer(histories))[:, cold.positions]

    wanted = cold.relevant.take(asked), [None], 0
    (ranking,) = rank_scores(of_cold, histories.take(asked), num_candidates, *wanted)
    none, left = np.zeros((len(histories), 0), np.int32), np.full(len(histories), len(cold.positions))
    return ranking._replace(lists=none, num_ranked=left)


def measure(
    rankings: Mapping[str, Ranking],
    targets: Targets,
    *,
    ks: Sequence[int],
    top_k_accuracies: Sequence[int] = (),
    catalogue: Catalogue | None = None,
    test_set: str = "",
) -> PerQuery:
    """Returns every metric of every query.

    - `including_seen/...` and `excluding_seen/...`, with the candidates that the query has in train left among the
      others, or taken out, if `targets` tells them: `{hit_rate,precision,recall,capped_recall,ndcg,mrr,map}_at_{k}`,
      `auc` and `mean_rank` of each query, each counting once; `interactions/{hit_rate,ndcg,mrr}_at_{k}` of each
      interaction. Equal scores stand in the order of their rows; for the AUC they count half.
    - `{coverage,gini,novelty,diversity,average_popularity,popularity_lift}_at_{k}` of the lists beside them, with a
      `catalogue`.
    - `cold_candidates/...`, the same but those of the lists: of candidates that train does not know, ranked among
      themselves, over the queries that one is relevant to. How they stand in the whole corpus is told by a slice.
    - `factorized_top_k/top_{k}_categorical_accuracy`: the share of interactions whose candidate is among the
      first k, nothing taken out and ties counted as hits, as in TensorFlow Recommenders.

    Args:
      rankings: by prefix; see `rank`.
      targets: what they are rankings of.
      ks: lengths of the lists that the metrics look at.
      top_k_accuracies: likewise of the accuracies.
      catalogue: what train tells of the corpus; None: no metrics of the lists.
      test_set: names what is asked, see `PerQuery`.
    """
    values: dict[str, Float64[np.ndarray, "Q"]] = {}
    weights: dict[str, Float64[np.ndarray, "Q"]] = {}
    if "including_seen" in rankings and top_k_accuracies:
        optimistic = ranking_metrics.Placed(rankings["including_seen"].ranks.optimistic, targets.relevant)
        for k in top_k_accuracies:
            name = f"factorized_top_k/top_{k}_categorical_accuracy"
            values[name] = ranking_metrics.interaction_hit_rate_at(optimistic, k)
            weights[name] = targets.relevant.lengths.astype(np.float64)
    for prefix, ranking in rankings.items():
        relevant = targets.cold.relevant if prefix == COLD else targets.relevant
        of_prefix = {f"{prefix}/{name}": of_each for name, of_each in _of_ranks(ranking, relevant, ks)}
        num_relevant = relevant.lengths.astype(np.float64)
        weights |= {name: num_relevant for name in of_prefix if name.startswith(f"{prefix}/interactions/")}
        if prefix == COLD:
            of_prefix = {name: np.where(num_relevant > 0, of_each, np.nan) for name, of_each in of_prefix.items()}
        values |= of_prefix
        if catalogue is not None and prefix != COLD:
            of_lists = _of_lists(ranking.lists, catalogue, ks)
            values |= {f"{prefix}/{name}": of_each for name, of_each in of_lists}
    return PerQuery(targets.query_ids, values, weights, test_set)


def _of_ranks(ranking: Ranking, relevant: Lists, ks: Sequence[int]) -> Iterator[tuple[str, Float64[np.ndarray, "Q"]]]:
    in_lists = ranking.places(relevant)
    every = ranking_metrics.Placed(in_lists, relevant)
    relevant, places = relevant.distinct()  # a repeated interaction is no second hit of its query
    once = ranking_metrics.Placed(in_lists[places], relevant)
    for k in ks:
        for name, metric in USER_METRICS.items():
            yield f"{name}_at_{k}", metric(once, k)
        for name, metric in INTERACTION_METRICS.items():
            yield f"interactions/{name}_at_{k}", metric(every, k)
    mean = ranking_metrics.Placed(ranking.ranks.mean[places], relevant)
    yield "auc", ranking_metrics.auc(mean, ranking.num_ranked)
    yield "mean_rank", ranking_metrics.mean_rank(mean)


def _of_lists(
    lists: Int32[np.ndarray, "Q K"], catalogue: Catalogue, ks: Sequence[int]
) -> Iterator[tuple[str, Float64[np.ndarray, "Q"]]]:
    counts, num_candidates = catalogue.counts, len(catalogue.counts)
    for k in ks:
        yield f"coverage_at_{k}", _if_they_differ(list_metrics.coverage_at(lists, num_candidates, k))
        yield f"gini_at_{k}", _if_they_differ(list_metrics.gini_at(lists, num_candidates, k))
        yield f"novelty_at_{k}", list_metrics.novelty_at(lists, counts, catalogue.num_queries, k)
        yield f"average_popularity_at_{k}", list_metrics.average_popularity_at(lists, counts, k)
        yield f"popularity_lift_at_{k}", list_metrics.popularity_lift_at(lists, counts, catalogue.histories, k)
        if catalogue.features is not None and k > 1:
            yield f"diversity_at_{k}", list_metrics.diversity_at(lists, catalogue.features, k)


def _if_they_differ(influence: Float64[np.ndarray, "Q"]) -> Float64[np.ndarray, "Q"]:
    """Returns influence values, or their mean alone where all are equal: they tell nothing of the spread then."""
    if np.all(np.isclose(influence, influence[:1], rtol=1e-12)):
        return np.where(np.arange(len(influence)) == 0, influence, np.nan)
    return influence


def check_ks(ks: Sequence[int]) -> None:
    """Checks the lengths of lists; one may exceed the corpus, whose lists are then shorter.

    Raises:
      ValueError: a k is below 1.
    """
    if ks and min(ks) < 1:
        raise ValueError(f"k must be at least 1, got {sorted(ks)}")


def _check_finite(name: str, embeddings) -> None:
    bad = np.flatnonzero(~np.isfinite(np.asarray(embeddings)).all(axis=1))
    if len(bad):
        raise ValueError(f"{len(bad)} {name} embeddings are not finite, the first in row {bad[0]}")
