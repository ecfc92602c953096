"""Losses of a positive against single negatives: cosine contrastive loss, and Bayesian personalised ranking.

Both are the mean over the columns of a batch of a function of one score, so that repeated candidates fold: n equal
columns add n equal terms. Copies of the example's own positive, and known positives if given, are no negatives; the
mean over no negative is 0.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from retrieval.losses.column_sums import column_sums, scores_at
from retrieval.losses.log_partition import SCORES_PER_BLOCK, accumulator
from retrieval.losses.reduction import reduce
from retrieval.losses.row_sets import KnownPositives


def cosine_contrastive(
    queries: Float[Array, "U D"],
    candidates: Float[Array, "V D"],
    query_indices: Int[Array, "B"],
    candidate_indices: Int[Array, "B"],
    counts: Float[Array, "V"],
    *,
    margin: float,
    negative_weight: float,
    known_positives: KnownPositives | None = None,
    weights: Float[Array, "B"] | None = None,
    reduction: str = "sum",
    scores_per_block: int = SCORES_PER_BLOCK,
) -> Float[Array, ""] | Float[Array, "B"]:
    """Returns 1 - cos(q, c) + mu mean_j max(0, cos(q, c_j) - m), for the positive c and the negatives c_j.

    Mao et al. 2021, "SimpleX: A simple and strong baseline for collaborative filtering", equation 1. Negatives below
    the margin have no gradient, so that the many easy negatives of a large draw do not outweigh the few hard ones.
    Serving must rank by the cosine too: use towers that normalise their outputs. An embedding of zeros has a cosine of
    0 with every other, and no gradient.

    O(U V D) time, and O((U + V) D + block) memory.

    Args:
      queries, candidates: embeddings of the distinct queries [U, D] and of the distinct candidates [V, D].
      query_indices, candidate_indices: indices of each example's query and positive among them [B].
      counts: number of columns with each candidate as a negative [V].
      margin: m, in [-1, 1].
      negative_weight: mu, weight of the mean over the negatives.
      known_positives: positives of each distinct query, which are no negatives of it.
      weights: weight of each example [B]; None: 1.
      reduction: "sum", "mean" over the weights, or "none".
      scores_per_block: largest number of scores held at a time.

    >>> queries, candidates = jnp.array([[2.0, 0.0]]), jnp.array([[0.6, 0.8], [3.0, 0.0], [0.0, 1.0]])
    >>> indices = {"query_indices": jnp.array([0]), "candidate_indices": jnp.array([0])}
    >>> settings = {"margin": 0.5, "negative_weight": 10.0}
    >>> loss = cosine_contrastive(queries, candidates, **indices, counts=jnp.array([0.0, 1.0, 1.0]), **settings)
    >>> print(f"{loss:.4f}")  # 1 - 0.6 + 10 * (0.5 + 0) / 2
    2.9000
    """
    queries, candidates = normalized(queries), normalized(candidates)
    positives = scores_at(queries[query_indices], candidates, candidate_indices)
    margins = jnp.full(len(queries), margin, positives.dtype)
    negatives = _Negatives(candidates, counts, known_positives, scores_per_block)
    mean = negatives.mean(jax.nn.relu, queries, margins, query_indices, candidate_indices, positives)
    return reduce(1 - positives + negative_weight * mean, weights, reduction)


def bpr(
    queries: Float[Array, "U D"],
    candidates: Float[Array, "V D"],
    query_indices: Int[Array, "B"],
    candidate_indices: Int[Array, "B"],
    counts: Float[Array, "V"],
    *,
    known_positives: KnownPositives | None = None,
    weights: Float[Array, "B"] | None = None,
    reduction: str = "sum",
    scores_per_block: int = SCORES_PER_BLOCK,
) -> Float[Array, ""] | Float[Array, "B"]:
    """Returns mean_j -log sigmoid(q . c - q . c_j), for the positive c and the negatives c_j.

    Rendle et al. 2009, "BPR: Bayesian personalized ranking from implicit feedback", section 4.1, with the mean over the
    columns of a batch in place of one drawn negative: the same expected gradient, with less noise. The paper draws
    negatives uniformly; the positives of a batch follow popularity, for which BPR has no correction.

    Each example has an offset of its own, the score of its positive, so that only the candidates fold: O(B V D) time,
    and O((B + V) D + block) memory.

    Args:
      queries, candidates: embeddings of the distinct queries [U, D] and of the distinct candidates [V, D].
      query_indices, candidate_indices: indices of each example's query and positive among them [B].
      counts: number of columns with each candidate as a negative [V].
      known_positives: positives of each distinct query, which are no negatives of it.
      weights: weight of each example [B]; None: 1.
      reduction: "sum", "mean" over the weights, or "none".
      scores_per_block: largest number of scores held at a time.

    >>> candidates = jnp.log(jnp.array([[4.0], [1.0], [2.0]]))
    >>> indices = {"query_indices": jnp.array([0]), "candidate_indices": jnp.array([0])}
    >>> loss = bpr(jnp.ones((1, 1)), candidates, **indices, counts=jnp.array([1.0, 1.0, 1.0]))
    >>> bool(jnp.isclose(loss, (jnp.log(5 / 4) + jnp.log(6 / 4)) / 2))  # sigmoid(ln 4 - ln x) = 4 / (4 + x)
    True
    """
    # the offset in softplus(s_j - s_i) depends on the example: queries unfold to [B, D]
    queries = queries[query_indices]
    positives = scores_at(queries, candidates, candidate_indices)
    if known_positives is not None:
        known_positives = known_positives._replace(positives=known_positives.positives.take(query_indices))
    negatives = _Negatives(candidates, counts, known_positives, scores_per_block)
    examples = jnp.arange(len(queries))
    mean = negatives.mean(jax.nn.softplus, queries, positives, examples, candidate_indices, positives)
    return reduce(mean, weights, reduction)


def normalized(embeddings: Float[Array, "n D"]) -> Float[Array, "n D"]:
    """Returns the embeddings divided by their norms, at least in float32; zeros stay zeros, with a gradient of 0."""
    embeddings = embeddings.astype(accumulator(embeddings))
    squares = jnp.sum(embeddings**2, axis=1, keepdims=True)
    # rsqrt(inf) = 0: zeros stay zeros, without the infinite derivative of rsqrt at 0
    return embeddings * jax.lax.rsqrt(jnp.where(squares > 0, squares, jnp.inf))


class _Negatives(NamedTuple):
    """The columns of a batch, as negatives of its examples."""

    candidates: Float[Array, "V D"]
    counts: Float[Array, "V"]
    known: KnownPositives | None
    scores_per_block: int

    def mean(self, function, queries, offsets, query_indices, candidate_indices, positives):
        """Returns the mean of f(q . c_j - o) over the negatives c_j of each example, 0 for no negative.

        The sum over the negatives is that over all columns minus the copies of the positive, as long as these are not
        excluded as known positives already.

        Args:
          function: f.
          queries, offsets: q and o, of each distinct query [U, D] and [U].
          query_indices, candidate_indices: indices of each example's query and positive [B].
          positives: score of each example's positive [B].
        """
        copies = self.counts[candidate_indices]
        if self.known is not None:
            is_known = self.known.positives.contain(query_indices, self.known.rows[candidate_indices])
            copies = jnp.where(is_known, 0, copies)
        options = {"offsets": offsets, "known": self.known, "scores_per_block": self.scores_per_block}
        sums, numbers = column_sums(function, queries, self.candidates, self.counts, **options)
        total = sums[query_indices] - copies * function(positives - offsets[query_indices])
        number = numbers[query_indices] - copies
        # the gradient of the unused branch must be finite as well: no division by 0
        return jnp.where(number > 0, total / jnp.maximum(number, 1), 0)
