"""The sampled softmax of a batch with repeated rows, computed once per distinct row."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from retrieval.losses.column_sums import column_sums, scores_at
from retrieval.losses.log_partition import SCORES_PER_BLOCK, log_partition, log_sum, scores_of, without_known
from retrieval.losses.reduction import reduce
from retrieval.losses.row_sets import KnownPositives
from retrieval.losses.softmax import log_q


class OwnNegatives(NamedTuple):
    """Negatives of single examples, which are not negatives of the other examples.

    Attributes:
      indices: indices of the negatives among the distinct candidates [B, H].
      log_weights: log of the number of columns that each negative stands for [B, H]; -inf for none.
    """

    indices: Int[Array, "B H"]
    log_weights: Float[Array, "B H"]


def folded_softmax(
    queries: Float[Array, "U D"],
    candidates: Float[Array, "V D"],
    query_indices: Int[Array, "B"],
    candidate_indices: Int[Array, "B"],
    counts: Float[Array, "V"],
    *,
    temperature: float = 1.0,
    sampling_probabilities: Float[Array, "V"] | None = None,
    scale_log_q: bool = False,
    remove_accidental_hits: bool = False,
    known_positives: KnownPositives | None = None,
    own_negatives: OwnNegatives | None = None,
    label_smoothing: float = 0.0,
    weights: Float[Array, "B"] | None = None,
    reduction: str = "sum",
    scores_per_block: int = SCORES_PER_BLOCK,
) -> Float[Array, ""] | Float[Array, "B"]:
    """Returns `sampled_softmax` of a batch with repeated rows, computed once per distinct row.

    If embeddings depend on their rows alone, equal candidates have equal columns, and n equal columns add n times the
    same term to the partition sum:

        log sum_j exp(s_ij) = log sum_v n_v exp(s_uv) = log sum_v exp(s_uv + log n_v)

    with sums over the M columns j of the batch and over its V distinct candidates v. Loss and gradients equal those of
    the unfolded form up to rounding, in O(U V D) time instead of O(B M D). Removing accidental hits subtracts n - 1
    copies of the positive from the sum, which can lose log2(n) bits if the positive outweighs all other candidates.

    If the embedding of a query depends on its example, queries do not fold, and U = B. Up to `scores_per_block` scores,
    memory is O(U V); beyond, scores are computed in blocks, see `log_partition`, and memory is O((B + V) D + block).

    A positive with a count of 0 is a column of its own example only. A mask by example, and hard negatives, have no
    folded form, since they distinguish equal candidates.

    Args:
      queries, candidates: embeddings of the distinct queries [U, D] and of the distinct candidates [V, D].
      query_indices, candidate_indices: indices of each example's query and positive among them [B].
      counts: n, number of columns of the unfolded batch with each candidate [V], drawn negatives included; 0 for
        padding.
      temperature, scale_log_q, label_smoothing, reduction: see `sampled_softmax`.
      sampling_probabilities: sampling probability of each distinct candidate [V]; None: no logQ correction.
      remove_accidental_hits: removes the copies of the example's own positive from its negatives.
      known_positives: positives of each distinct query; removed from its negatives, but for the example's own positive.
      own_negatives: negatives of single examples, without a logQ correction.
      weights: weight of each example [B]; None: 1.
      scores_per_block: largest number of scores held at a time.

    >>> candidates = jnp.log(jnp.array([[1.0], [3.0]]))
    >>> query, positive, counts = jnp.array([0]), jnp.array([0]), jnp.array([1.0, 2.0])
    >>> print(folded_softmax(jnp.ones((1, 1)), candidates, query, positive, counts).round(4))  # log(1 + 2 * 3) - log 1
    1.9459
    """
    shift = jnp.zeros_like(counts)
    if sampling_probabilities is not None:
        shift -= log_q(sampling_probabilities) / (temperature if scale_log_q else 1.0)
    sums = _dense_sums if len(queries) * len(candidates) <= scores_per_block else _blocked_sums
    bias = jnp.log(counts) + shift
    totals, score = sums(queries, candidates, query_indices, bias, known_positives, temperature, scores_per_block)
    positives = score(candidate_indices) + shift[candidate_indices]
    copies = counts[candidate_indices]  # columns with the example's positive that are part of `totals`
    if known_positives is not None:
        is_known = known_positives.positives.contain(query_indices, known_positives.rows[candidate_indices])
        copies = jnp.where(is_known, 0, copies)
    kept = jnp.where(copies > 0, 1 if remove_accidental_hits else copies, 1)
    if remove_accidental_hits:
        totals = _without_copies(totals, positives, copies)
    # a positive that is no column, as a known positive or with a count of 0, joins the sum of its own example
    totals = jnp.where(copies > 0, totals, jnp.logaddexp(totals, positives))
    targets = positives
    if label_smoothing:
        options = {"bias": shift, "known": known_positives, "temperature": temperature}
        options |= {"scores_per_block": scores_per_block}
        # the mean of the remaining columns: all columns, with `kept` in place of `copies` columns of the positive
        sums, numbers = column_sums(lambda scores: scores, queries, candidates, counts, **options)
        mean = (sums[query_indices] + (kept - copies) * positives) / (numbers[query_indices] + kept - copies)
        targets = (1 - label_smoothing) * positives + label_smoothing * mean
    if own_negatives is not None:
        totals = jnp.logaddexp(totals, log_sum(score(own_negatives.indices) + own_negatives.log_weights))
    return reduce(totals - targets, weights, reduction)


def _without_copies(totals, positives, copies):
    """Returns the log-partition of each example without all but one of the copies of its positive.

    Args:
      totals: Z, the log-partition of each example [B].
      positives: s, the score of its positive [B].
      copies: n, number of copies of the positive in the partition [B].
    """
    # log(exp(Z) - (n - 1) exp(s)) = Z + log(1 - share), share = (n - 1) exp(s - Z). The share is below 1, since Z holds
    # n copies, but may round to 1 and above: it is clipped, so that the log stays finite. Without a copy nothing is
    # subtracted: exp(s - inf) = 0.
    finite_totals = jnp.where(copies > 0, totals, jnp.inf)
    share = jnp.maximum(copies - 1, 0.0) * jnp.exp(positives - finite_totals)
    reduced = totals + jnp.log1p(-jnp.minimum(share, 1 - jnp.finfo(totals.dtype).eps))
    # one copy remains, so the result is at least its score: without this bound, rounding could make a loss negative
    return jnp.where(copies > 0, jnp.maximum(reduced, positives), reduced)


def _dense_sums(queries, candidates, query_indices, bias, known, temperature, _):
    """Returns the log-partition of each example, and a function from candidate indices [B, ...] to their scores."""
    scores = scores_of(queries, candidates) / temperature  # [U, V]
    columns = scores + bias[None, :]
    if known is not None:
        columns = without_known(columns, known)

    def score(indices):
        return scores[query_indices.reshape((-1,) + (1,) * (indices.ndim - 1)), indices]

    return log_sum(columns)[query_indices], score


def _blocked_sums(queries, candidates, query_indices, bias, known, temperature, scores_per_block):
    """Returns the results of `_dense_sums`, in the memory of one block of scores."""
    totals = log_partition(queries, candidates, bias, known, temperature=temperature, scores_per_block=scores_per_block)

    def score(indices):
        return scores_at(queries[query_indices], candidates, indices) / temperature

    return totals[query_indices], score
