"""Squared loss over all pairs of queries and candidates, in time that is linear in queries plus candidates."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from retrieval.losses.column_sums import scores_at
from retrieval.losses.log_partition import accumulator
from retrieval.losses.reduction import reduce

_product = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def implicit_squared(
    queries: Float[Array, "U D"],
    candidates: Float[Array, "V D"],
    query_indices: Int[Array, "B"],
    candidate_indices: Int[Array, "B"],
    counts: Float[Array, "V"],
    shares: Float[Array, "U"],
    *,
    unobserved_weight: float,
    weights: Float[Array, "B"] | None = None,
    reduction: str = "sum",
) -> Float[Array, ""] | Float[Array, "B"]:
    """Returns (q . c - 1)^2 + a f_q sum_v n_v (q . c_v)^2, for the positive c of each example.

    The objective of iALS (Rendle et al. 2021, "Revisiting the performance of iALS on item recommendation benchmarks",
    equation 2): the scores of observed pairs are pulled to 1, and those of all pairs of a query and a candidate of the
    corpus, observed or not, to 0 with the weight a. The sum over the corpus is

        sum_v n_v (q . c_v)^2 = q' G q,    G = sum_v n_v c_v c_v'

    with the Gramian G (Krichene et al. 2019, "Efficient training on very large corpora via Gramian estimation", here
    exact): O((U + V) D^2) time and O((U + V) D) memory, not O(U V).

    The second term belongs to the query, not to the example. With f_q = 1 / (sum of the weights of the query's examples
    in the training part), an epoch counts it once for each query, for every batching of the examples. Hu, Koren and
    Volinsky 2008, "Collaborative filtering for implicit feedback datasets", weight observed pairs by alpha and others
    by 1: up to a factor and a constant, that is a = 1 / (alpha - 1) and a target of alpha / (alpha - 1) instead of 1,
    which scales the scores.

    Args:
      queries, candidates: embeddings of the distinct queries [U, D] and of the corpus [V, D].
      query_indices, candidate_indices: indices of each example's query and positive among them [B].
      counts: n, number of occurrences of each candidate in the corpus [V]; 0 for the unknown row.
      shares: f, share of the second term of a query in each of its examples [U].
      unobserved_weight: a, weight of a pair that is not observed.
      weights: weight of each example [B]; None: 1.
      reduction: "sum", "mean" over the weights, or "none".

    >>> queries, candidates = jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 1.0], [0.0, 1.0]])  # scores 3 and 2
    >>> indices, shares = jnp.array([0]), jnp.array([0.5])
    >>> loss = implicit_squared(queries, candidates, indices, indices, jnp.ones(2), shares, unobserved_weight=0.1)
    >>> print(f"{loss:.4f}")  # (3 - 1)^2 + 0.1 * 0.5 * (3^2 + 2^2)
    4.6500
    """
    positives = scores_at(queries[query_indices], candidates, candidate_indices)
    queries = queries.astype(positives.dtype)
    # q' G q for all queries at once, [U, D] @ [D, D]: the scores [U, V] are never computed
    squares = shares * jnp.sum(_product(queries, gramian(candidates, counts)) * queries, axis=1)  # [U]
    return reduce((positives - 1) ** 2 + unobserved_weight * squares[query_indices], weights, reduction)


def gramian(candidates: Float[Array, "V D"], counts: Float[Array, "V"]) -> Float[Array, "D D"]:
    """Returns the Gramian sum_v n_v c_v c_v' of the candidates, at least in float32; O(V D^2) time.

    >>> gramian(jnp.array([[1.0, 2.0], [3.0, 0.0]]), jnp.array([1.0, 2.0])).tolist()
    [[19.0, 2.0], [2.0, 4.0]]
    """
    candidates = candidates.astype(accumulator(candidates))
    return _product(candidates.T, counts[:, None] * candidates)
