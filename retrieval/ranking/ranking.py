"""How a system ranks the corpus for each query: what every metric is computed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32

from retrieval.common.lists import Lists
from retrieval.ranking.ranks import Ranks, rank_each
from retrieval.ranking.ranks import rank_scores as ranks_of
from retrieval.ranking.selection import top_k_of_scores
from retrieval.ranking.topk import top_k

Scorer = Callable[[Lists], Float[Array, "q N"] | Float32[np.ndarray, "q N"]]  # histories -> scores of the whole corpus
NOWHERE = np.int32(2**30)  # the place of what is in no list, however long
SCORES_AT_A_TIME = 2**22  # of `rank_scores`: 16 MiB


class Ranking(NamedTuple):
    """The exact ranks of what is relevant, and the first of each list, under one exclusion.

    Attributes:
      ranks: how the corpus stands to each relevant candidate, in the order of its `Lists`.
      lists: positions of each query's best candidates, best first, -1 where fewer are left [Q, K].
      num_ranked: how many candidates of each query are not excluded [Q].
    """

    ranks: Ranks
    lists: Int32[np.ndarray, "Q K"]
    num_ranked: Int[np.ndarray, "Q"]

    def places(self, relevant: Lists) -> Int32[np.ndarray, "total"]:
        """Returns the place of each relevant candidate in its list; a place that no list has where it is excluded."""
        ordinal = self.ranks.ordinal
        return np.where(ordinal < self.num_ranked[relevant.owners], ordinal, NOWHERE)


def rank_embeddings(
    queries: Float[Array, "Q D"] | Float32[np.ndarray, "Q D"],
    candidates: Float[Array, "N D"] | Float32[np.ndarray, "N D"],
    relevant: Lists,
    exclusions: Sequence[Lists | None],
    k: int,
) -> list[Ranking]:
    """Ranks the corpus by dot products, once for each way to exclude candidates; see `rank_each` and `top_k`.

    Args:
      queries: query embeddings [Q, D].
      candidates: candidate embeddings [N, D].
      relevant: positions of the relevant candidates of each query.
      exclusions: positions of the candidates left out for each query; None: nothing.
      k: length of the lists; 0: none are made.
    """
    ranks = rank_each(queries, candidates, relevant, exclusions)
    return [
        Ranking(
            of_relevant,
            top_k(queries, candidates, k, excluded)[1] if k else np.zeros((len(queries), 0), np.int32),
            num_ranked(len(candidates), excluded, len(queries)),
        )
        for of_relevant, excluded in zip(ranks, exclusions, strict=True)
    ]


def rank_scores(
    scorer: Scorer,
    histories: Lists,
    num_candidates: int,
    relevant: Lists,
    exclusions: Sequence[Lists | None],
    k: int,
) -> list[Ranking]:
    """Ranks the corpus by any scores, as `rank_embeddings` does by dot products.

    Beside the time of the scores takes O(total N) to count and O(Q N) to select, and memory for a few blocks of scores
    of at most 16 MiB, or one query.

    Args:
      scorer: histories of some queries -> their scores of the whole corpus.
      histories: positions of the candidates that each query has in train.
      num_candidates: the size of the corpus.
      relevant: positions of the relevant candidates of each query.
      exclusions: positions of the candidates left out for each query; None: nothing.
      k: length of the lists; 0: none are made.

    Raises:
      ValueError: a score is not finite.
    """
    size = max(1, SCORES_AT_A_TIME // num_candidates)
    blocks = []
    for start in range(0, max(len(histories), 1), size):
        mine = np.arange(start, min(start + size, len(histories)))
        scores = np.asarray(scorer(histories.take(mine)))
        if not np.isfinite([scores.min(initial=0), scores.max(initial=0)]).all():  # NaN is the least and the highest
            first = mine[np.flatnonzero(~np.isfinite(scores).all(axis=1))[0]]
            raise ValueError(f"the scores of query {first} are not finite")
        taken = [None if excluded is None else excluded.take(mine) for excluded in exclusions]
        blocks.append(_of_block(scores, relevant.take(mine), taken, k))
    return [_joined(of_exclusion) for of_exclusion in zip(*blocks, strict=True)]


def _of_block(scores: Float32[np.ndarray, "q N"], relevant: Lists, exclusions, k: int) -> list[Ranking]:
    num_queries, num_candidates = scores.shape
    none = np.zeros((num_queries, 0), np.int32)
    lists = top_k_of_scores(scores, k, exclusions) if k else [none] * len(exclusions)
    left = [num_ranked(num_candidates, excluded, num_queries) for excluded in exclusions]
    return list(map(Ranking, ranks_of(scores, relevant, exclusions), lists, left))


def _joined(rankings: Sequence[Ranking]) -> Ranking:
    """Returns the rankings of some queries as one."""
    ranks = Ranks(*(np.concatenate(parts) for parts in zip(*(ranking.ranks for ranking in rankings), strict=True)))
    _, lists, left = zip(*rankings, strict=True)
    return Ranking(ranks, np.concatenate(lists), np.concatenate(left))


def num_ranked(num_candidates: int, excluded: Lists | None, num_queries: int) -> Int[np.ndarray, "Q"]:
    """Returns how many candidates are left to each query."""
    return np.full(num_queries, num_candidates) - (0 if excluded is None else excluded.sets().lengths)
