"""Exact ranks of relevant candidates among the full corpus, by counting instead of sorting."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Float64, Int32

from retrieval.lists import Lists
from retrieval.topk import block_size, check_embeddings, masked_scores, pad_rows

SCORES_PER_COUNT = 2**18  # scores compared at a time while counting: they stay in the cache


class Ranks(NamedTuple):
    """How the corpus stands to each relevant candidate, in the order of `Lists.rows`; each int32 [total].

    The rank (0 is best) under each policy for equal scores follows:

    Attributes:
      higher: candidates with a strictly higher score, or NaN. A relevant candidate that is excluded, or whose
        score is NaN, has all of them.
      equal_before: other candidates with an equal score and a lower row.
      equal: other candidates with an equal score.
    """

    higher: Int32[np.ndarray, "total"]
    equal_before: Int32[np.ndarray, "total"]
    equal: Int32[np.ndarray, "total"]

    @property
    def ordinal(self) -> Int32[np.ndarray, "total"]:
        """Place in the list that `top_k` returns: equal scores in the order of their rows."""
        return self.higher + self.equal_before

    @property
    def optimistic(self) -> Int32[np.ndarray, "total"]:
        """Best place that any order of equal scores gives; the policy of TensorFlow Recommenders."""
        return self.higher

    @property
    def pessimistic(self) -> Int32[np.ndarray, "total"]:
        """Worst place that any order of equal scores gives."""
        return self.higher + self.equal

    @property
    def mean(self) -> Float64[np.ndarray, "total"]:
        """Mean place over all orders of equal scores."""
        return self.higher + self.equal / 2


def rank(
    queries: Float[Array, "Q D"] | Float32[np.ndarray, "Q D"],
    candidates: Float[Array, "N D"] | Float32[np.ndarray, "N D"],
    relevant: Lists,
    excluded: Lists | None = None,
) -> Ranks:
    """Ranks each query's relevant candidates among all candidates that are not excluded for it.

    The score of a relevant candidate is taken out of the matrix product that scores the others, so that no
    rounding makes it lose to itself. Takes O(Q N D + total N) time and O(max(N, block)) memory beside its
    inputs and outputs.

    Args:
      queries: query embeddings [Q, D].
      candidates: candidate embeddings [N, D].
      relevant: rows of the relevant candidates of each query.
      excluded: rows of the candidates left out for each query.
    """
    num_queries, num_candidates = check_embeddings(queries, candidates, relevant, excluded)
    if not len(relevant.rows):
        return Ranks(*np.zeros((3, 0), np.int32))
    excluded = Lists.empty(num_queries) if excluded is None else excluded
    size = block_size(num_queries, num_candidates)
    relevant_capacity, excluded_capacity = relevant.capacity(size), excluded.capacity(size)
    blocks = []
    for start in range(0, num_queries, size):
        count = relevant.offsets[min(start + size, num_queries)] - relevant.offsets[start]
        counts = _rank_block(
            pad_rows(queries[start : start + size], size),
            candidates,
            relevant.block(start, size, relevant_capacity),
            excluded.block(start, size, excluded_capacity),
        )
        blocks.append(counts[:, :count])
    return Ranks(*np.concatenate(blocks, axis=1))


@jax.jit
def _rank_block(queries, candidates, relevant, excluded):
    scores = masked_scores(queries, candidates, *excluded)  # [Q, N]
    columns = jnp.arange(len(candidates))

    def count(pair):
        owner, row = pair
        own = scores[owner, row]
        equal = scores[owner] == own
        left_out = ~(own > -jnp.inf)
        higher = jnp.where(left_out, len(candidates), jnp.sum(~(scores[owner] <= own)))
        ties = jnp.array([jnp.sum(equal & (columns < row)), jnp.sum(equal) - 1])
        return jnp.concatenate([higher[None], jnp.where(left_out, 0, ties)])

    at_a_time = max(1, SCORES_PER_COUNT // len(candidates))
    return jax.lax.map(count, relevant, batch_size=at_a_time).T.astype(jnp.int32)
