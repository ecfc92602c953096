"""Ranks the whole corpus by embeddings or by a scorer: ranks and top-k lists, the input of every metric."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32

from retrieval.common.lists import Lists
from retrieval.data.encoding import Cold, Targets
from retrieval.ranking.ranks import Ranks, rank_each, rank_scores
from retrieval.ranking.selection import top_k_of_scores
from retrieval.ranking.topk import top_k

Scorer = Callable[[Lists], Float[Array, "q N"] | Float32[np.ndarray, "q N"]]  # histories -> scores of the whole corpus
INCLUDING_SEEN = "including_seen"  # protocol: the candidates that a query has in train compete
EXCLUDING_SEEN = "excluding_seen"  # protocol: they are left out
COLD = "cold_candidates"  # protocol: cold-start candidates (not in train), ranked among themselves
NOT_RANKED = np.int32(2**30)  # rank of an excluded candidate: beyond every list
SCORES_AT_A_TIME = 2**22  # scores of a scorer in memory at once: 16 MiB


class Ranking(NamedTuple):
    """Exact ranks of the relevant candidates and the top-k list of each query, under one exclusion.

    Attributes:
      ranks: ranks of the relevant candidates, in the order of their `Lists`.
      lists: positions of each query's best candidates, best first, padded with -1 [Q, K].
      num_ranked: number of candidates of each query that are not excluded [Q].
    """

    ranks: Ranks
    lists: Int32[np.ndarray, "Q K"]
    num_ranked: Int[np.ndarray, "Q"]

    def list_ranks(self, relevant: Lists) -> Int32[np.ndarray, "total"]:
        """Returns the rank of each relevant candidate in its query's list; `NOT_RANKED` if it is excluded."""
        ordinal = self.ranks.ordinal
        return np.where(ordinal < self.num_ranked[relevant.owners], ordinal, NOT_RANKED)


@dataclasses.dataclass(frozen=True, eq=False)
class EmbeddingRanker:
    """Ranks the corpus by dot products; see `ranks.rank_each` and `topk.top_k`.

    Attributes:
      queries: query embeddings [Q, D].
      candidates: candidate embeddings [N, D].

    Raises:
      ValueError: an embedding is not finite.
    """

    queries: Float[Array, "Q D"] | Float32[np.ndarray, "Q D"]
    candidates: Float[Array, "N D"] | Float32[np.ndarray, "N D"]

    def __post_init__(self):
        for name, embeddings in (("query", self.queries), ("candidate", self.candidates)):
            broken = np.flatnonzero(~np.isfinite(np.asarray(embeddings)).all(axis=1))
            if len(broken):
                raise ValueError(f"{len(broken)} {name} embeddings are not finite, the first in row {broken[0]}")

    def take(self, queries: Int[np.ndarray, "q"]) -> EmbeddingRanker:
        """Returns a ranker of the queries with these indices."""
        return EmbeddingRanker(self.queries[queries], self.candidates)

    def restrict(self, positions: Int[np.ndarray, "M"]) -> EmbeddingRanker:
        """Returns a ranker of the candidates at these positions."""
        return EmbeddingRanker(self.queries, self.candidates[positions])

    def rank(self, relevant: Lists, exclusions: Sequence[Lists | None], k: int) -> list[Ranking]:
        """Ranks the corpus once per exclusion; takes the arguments of `ScoreRanker.rank`."""
        num_queries, num_candidates = len(self.queries), len(self.candidates)
        all_ranks = rank_each(self.queries, self.candidates, relevant, exclusions)
        rankings = []
        for ranks, excluded in zip(all_ranks, exclusions, strict=True):
            lists = np.zeros((num_queries, 0), np.int32)
            if k:
                lists = top_k(self.queries, self.candidates, k, excluded)[1]
            rankings.append(Ranking(ranks, lists, _num_ranked(num_candidates, excluded, num_queries)))
        return rankings


@dataclasses.dataclass(frozen=True, eq=False)
class ScoreRanker:
    """Ranks the corpus by the scores that a scorer computes from the histories of the queries.

    Attributes:
      scorer: maps histories [q lists] to scores of the whole corpus [q, N].
      histories: positions of the candidates that each query has in train.
      num_candidates: size of the corpus.
    """

    scorer: Scorer
    histories: Lists
    num_candidates: int

    def take(self, queries: Int[np.ndarray, "q"]) -> ScoreRanker:
        """Returns a ranker of the queries with these indices."""
        return dataclasses.replace(self, histories=self.histories.take(queries))

    def restrict(self, positions: Int[np.ndarray, "M"]) -> ScoreRanker:
        """Returns a ranker of the candidates at these positions."""
        return ScoreRanker(
            lambda histories: np.asarray(self.scorer(histories))[:, positions], self.histories, len(positions)
        )

    def rank(self, relevant: Lists, exclusions: Sequence[Lists | None], k: int) -> list[Ranking]:
        """Ranks the corpus once per exclusion.

        Besides the time of the scorer, takes O(total N) time to count and O(Q N) to select. The memory is a block of
        scores of 16 MiB, or the scores of one query if they are larger.

        Args:
          relevant: positions of the relevant candidates of each query.
          exclusions: for each exclusion, positions of the candidates left out for each query; None excludes nothing.
          k: length of the lists; 0 for no lists.

        Raises:
          ValueError: a score is not finite.
        """
        size = max(1, SCORES_AT_A_TIME // self.num_candidates)
        blocks = []
        for start in range(0, max(len(self.histories), 1), size):
            members = np.arange(start, min(start + size, len(self.histories)))
            scores = np.asarray(self.scorer(self.histories.take(members)))
            if not np.isfinite([scores.min(initial=0), scores.max(initial=0)]).all():  # min and max propagate NaN
                first = members[np.flatnonzero(~np.isfinite(scores).all(axis=1))[0]]
                raise ValueError(f"the scores of query {first} are not finite")
            block_exclusions = [None if excluded is None else excluded.take(members) for excluded in exclusions]
            blocks.append(_rank_block(scores, relevant.take(members), block_exclusions, k))
        return [_concatenate(rankings) for rankings in zip(*blocks, strict=True)]


def rank_corpus(ranker: EmbeddingRanker | ScoreRanker, targets: Targets, k: int) -> dict[str, Ranking]:
    """Ranks the corpus for the queries of `targets`, once per protocol.

    - `including_seen`: all candidates compete.
    - `excluding_seen`: the candidates that a query has in train are left out; present if `targets.seen` is set.
    - `cold_candidates`: the cold-start candidates, absent from train, are ranked among themselves, without lists;
      present if `targets.cold` is set. Only the queries with a relevant cold-start candidate are ranked.

    Args:
      ranker: the system under evaluation, with the queries of `targets` in the same order.
      targets: the relevant candidates of each query, and its candidates in train.
      k: length of the lists to keep; 0 for no lists.

    Raises:
      ValueError: a score is not finite.
    """
    exclusions = {INCLUDING_SEEN: None}
    if targets.seen is not None:
        exclusions[EXCLUDING_SEEN] = targets.seen.sets()
    rankings = ranker.rank(targets.relevant, list(exclusions.values()), k)
    by_protocol = dict(zip(exclusions, rankings, strict=True))
    if targets.cold is not None:
        by_protocol[COLD] = _rank_cold(ranker, targets.cold)
    return by_protocol


def _rank_cold(ranker: EmbeddingRanker | ScoreRanker, cold: Cold) -> Ranking:
    """Ranks the cold-start candidates among themselves, for the queries that have a relevant one."""
    num_queries, num_cold = len(cold.relevant), len(cold.positions)
    queries = np.flatnonzero(cold.relevant.lengths > 0)
    (ranking,) = ranker.take(queries).restrict(cold.positions).rank(cold.relevant.take(queries), [None], 0)
    return Ranking(ranking.ranks, np.zeros((num_queries, 0), np.int32), np.full(num_queries, num_cold))


def _rank_block(scores: Float32[np.ndarray, "q N"], relevant: Lists, exclusions, k: int) -> list[Ranking]:
    """Ranks a block of queries by their scores, once per exclusion."""
    num_queries, num_candidates = scores.shape
    lists = [np.zeros((num_queries, 0), np.int32)] * len(exclusions)
    if k:
        lists = top_k_of_scores(scores, k, exclusions)
    numbers = [_num_ranked(num_candidates, excluded, num_queries) for excluded in exclusions]
    return list(map(Ranking, rank_scores(scores, relevant, exclusions), lists, numbers))


def _concatenate(rankings: Sequence[Ranking]) -> Ranking:
    """Joins the rankings of consecutive queries."""
    ranks = Ranks(*(np.concatenate(parts) for parts in zip(*(ranking.ranks for ranking in rankings), strict=True)))
    _, lists, numbers = zip(*rankings, strict=True)
    return Ranking(ranks, np.concatenate(lists), np.concatenate(numbers))


def _num_ranked(num_candidates: int, excluded: Lists | None, num_queries: int) -> Int[np.ndarray, "Q"]:
    """Returns the number of candidates that are not excluded for each query."""
    return np.full(num_queries, num_candidates) - (0 if excluded is None else excluded.sets().lengths)
