"""How a system ranks the corpus for each query: what every metric is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32

from retrieval.lists import Lists
from retrieval.ranks import Ranks, rank_each
from retrieval.topk import top_k


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


def num_ranked(num_candidates: int, excluded: Lists | None, num_queries: int) -> Int[np.ndarray, "Q"]:
    """Returns how many candidates are left to each query."""
    return np.full(num_queries, num_candidates) - (0 if excluded is None else excluded.sets().lengths)
