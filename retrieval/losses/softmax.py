"""The sampled softmax of two-tower retrieval and its corrections, as pure functions of logits.

Row i of `queries` [B, D] has its positive in row i of `candidates` [M, D], M >= B; the rows behind the
first B are negatives for everybody. The corrections apply in the order of `sampled_softmax`, which is that of
TensorFlow Recommenders' `tasks.Retrieval`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from retrieval.losses.column_sums import column_sums, scores_at
from retrieval.losses.log_partition import (
    SCORES_PER_BLOCK,
    KnownPositives,
    log_partition,
    log_sum,
    scores_of,
    without_known,
)
from retrieval.losses.reduction import reduce

MIN_SAMPLING_PROBABILITY = 1e-6


def sampled_softmax(
    queries: Float[Array, "B D"],
    candidates: Float[Array, "M D"],
    *,
    temperature: float = 1.0,
    sampling_probabilities: Float[Array, "M"] | None = None,
    scale_log_q: bool = False,
    accidental_hits_of: Int[Array, "M"] | None = None,
    known_positives: Bool[Array, "B M"] | None = None,
    mask: Bool[Array, "B M"] | None = None,
    own_negatives: Float[Array, "B H"] | None = None,
    num_hard_negatives: int = 0,
    label_smoothing: float = 0.0,
    weights: Float[Array, "B"] | None = None,
    reduction: str = "sum",
) -> Float[Array, ""] | Float[Array, "B"]:
    """Returns the cross-entropy of each query's positive among the candidates of the batch.

    Takes O(B M D) time and O(B M) memory.

    Args:
      queries: outputs of the query tower [B, D].
      candidates: outputs of the candidate tower [M, D]; row i < B is the positive of query i.
      temperature: divides the scores.
      sampling_probabilities: the probability of each candidate under the sampler [M]; None: no logQ correction.
      scale_log_q: divides the logQ correction by the temperature as well (the order of Merlin Models).
      accidental_hits_of: the row of each candidate [M]; negatives that are the positive itself under another
        index are removed. None: they stay.
      known_positives: True where a candidate is another positive of the query [B, M]; those are removed.
      mask: False where a candidate is no negative of the query [B, M]; those are removed.
      own_negatives: final logits of further negatives of each query [B, H]; -inf where there is none.
      num_hard_negatives: keeps only that many negatives with the highest logits; 0: all.
      label_smoothing: share of the target that is spread evenly over the columns that are left, the positive among
        them and own negatives not (Szegedy et al. 2016, "Rethinking the Inception architecture", section 7).
      weights: weight of each example [B]; None: 1.
      reduction: "sum", "mean" over the weights, or "none".

    >>> queries = jnp.array([[1., 2., 3.], [2., 3., 4.]])
    >>> candidates = jnp.array([[1., 1., 1.], [1., 1., 0.]])
    >>> expected = -jnp.log(jax.nn.sigmoid(3.)) - jnp.log(1 - jax.nn.sigmoid(4.))
    >>> bool(jnp.isclose(sampled_softmax(queries, candidates), expected))
    True
    """
    if len(candidates) < len(queries):
        raise ValueError(f"every query needs its positive: {len(queries)} queries, {len(candidates)} candidates")
    logits = scores_of(queries, candidates) / temperature  # [B, M]
    if sampling_probabilities is not None:
        logits = correct_log_q(logits, sampling_probabilities, temperature if scale_log_q else 1.0)
    if accidental_hits_of is not None:
        logits = remove_accidental_hits(logits, accidental_hits_of)
    if known_positives is not None:
        logits = remove_negatives(logits, known_positives)
    if mask is not None:
        logits = remove_negatives(logits, ~mask)
    if own_negatives is not None:
        logits = jnp.concatenate([logits, own_negatives], axis=1)
    if num_hard_negatives > 0:
        logits = keep_hard_negatives(logits, num_hard_negatives)
    terms = jax.nn.logsumexp(logits, axis=1) - target(logits, len(candidates), label_smoothing)
    return reduce(terms, weights, reduction)


class OwnNegatives(NamedTuple):
    """Negatives of single examples, which no other example sees.

    Attributes:
      indices: where they stand among the distinct candidates [B, H].
      log_weights: log of how often each counts [B, H]; -inf where there is none.
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
    """Returns `sampled_softmax` of a batch with repeated rows, from its distinct rows.

    Where the embeddings depend on their rows alone, the columns of equal candidates are equal, and n of them add n
    times the same term to the sum: log sum_j exp(S_ij) = log sum_v n_v exp(S_uv). Loss and gradients are those of the
    unfolded form up to rounding, in O(U V D) time instead of O(B M D). With accidental hits removed, the n - 1 copies
    of the positive are subtracted from the sum, which can cost log2(n) bits where the positive outweighs all else.

    A query side that does not fold, because its embeddings depend on the example, has U = B. Memory is O(U V) up to
    `scores_per_block` scores; more are computed in blocks, see `log_partition`, and memory is O((B + V) D + block).

    A positive that no column holds (its count is 0) is a column of its own example. A mask by example and hard
    negatives have no folded form: they tell equal candidates apart.

    Args:
      queries, candidates: embeddings of the distinct queries [U, D] and of the distinct candidates [V, D].
      query_indices, candidate_indices: where each example's query and its positive stand among them [B].
      counts: how many columns of the unfolded batch hold each candidate [V], extra negatives included; 0 for padding.
      temperature, scale_log_q, label_smoothing, reduction: as in `sampled_softmax`.
      sampling_probabilities: of the distinct candidates [V].
      remove_accidental_hits: removes the negatives that are the example's own positive.
      known_positives: which candidates are positives of which queries; removed but for the example's own.
      own_negatives: negatives of single examples, without a logQ correction.
      weights: weight of each example [B].
      scores_per_block: how many scores are held at a time.
    """
    shift = jnp.zeros_like(counts)
    if sampling_probabilities is not None:
        shift -= log_q(sampling_probabilities) / (temperature if scale_log_q else 1.0)
    sums = _dense_sums if len(queries) * len(candidates) <= scores_per_block else _blocked_sums
    bias = jnp.log(counts) + shift
    totals, score = sums(queries, candidates, query_indices, bias, known_positives, temperature, scores_per_block)
    positives = score(candidate_indices) + shift[candidate_indices]
    copies = counts[candidate_indices]  # columns that hold the example's positive, of those summed
    if known_positives is not None:
        is_known = known_positives.positives.contain(query_indices, known_positives.rows[candidate_indices])
        copies = jnp.where(is_known, 0, copies)
    kept = jnp.where(copies > 0, 1 if remove_accidental_hits else copies, 1)
    if remove_accidental_hits:
        held = jnp.where(copies > 0, totals, jnp.inf)  # where there is no copy, none is subtracted
        share = jnp.maximum(copies - 1, 0.0) * jnp.exp(positives - held)
        totals += jnp.log1p(-jnp.minimum(share, 1 - jnp.finfo(totals.dtype).eps))
    totals = jnp.where(copies > 0, totals, jnp.logaddexp(totals, positives))
    targets = positives
    if label_smoothing:
        options = {"bias": shift, "known": known_positives, "temperature": temperature}
        options |= {"scores_per_block": scores_per_block}
        sums, numbers = column_sums(lambda scores: scores, queries, candidates, counts, **options)
        mean = (sums[query_indices] + (kept - copies) * positives) / (numbers[query_indices] + kept - copies)
        targets = (1 - label_smoothing) * positives + label_smoothing * mean
    if own_negatives is not None:
        totals = jnp.logaddexp(totals, log_sum(score(own_negatives.indices) + own_negatives.log_weights))
    return reduce(totals - targets, weights, reduction)


def _dense_sums(queries, candidates, query_indices, bias, known, temperature, _):
    """Returns each example's log-partition, and a function from indices [B, ...] to the scores there."""
    scores = scores_of(queries, candidates) / temperature  # [U, V]
    columns = scores + bias[None, :]
    if known is not None:
        columns = without_known(columns, known)

    def score(indices):
        return scores[query_indices.reshape((-1,) + (1,) * (indices.ndim - 1)), indices]

    return log_sum(columns)[query_indices], score


def _blocked_sums(queries, candidates, query_indices, bias, known, temperature, scores_per_block):
    """Does what `_dense_sums` does without holding all scores."""
    totals = log_partition(queries, candidates, bias, known, temperature=temperature, scores_per_block=scores_per_block)

    def score(indices):
        return scores_at(queries[query_indices], candidates, indices) / temperature

    return totals[query_indices], score


def correct_log_q(
    logits: Float[Array, "B M"], probabilities: Float[Array, "M"], temperature: float = 1.0
) -> Float[Array, "B M"]:
    """Subtracts the log-probability of each candidate under the sampler, the positive's included.

    Without it an in-batch softmax learns log p(candidate | query) - log p(candidate), which punishes popular
    candidates (Yi et al. 2019, "Sampling-bias-corrected neural modeling for large corpus item recommendations",
    equation 3). Probabilities are clipped to [1e-6, 1] as in TensorFlow Recommenders.
    """
    return logits - log_q(probabilities)[None, :] / temperature


def log_q(probabilities: Float[Array, "M"]) -> Float[Array, "M"]:
    """Returns the log of sampling probabilities, clipped to [1e-6, 1]."""
    return jnp.log(jnp.clip(probabilities, MIN_SAMPLING_PROBABILITY, 1.0))


def remove_accidental_hits(logits: Float[Array, "B M"], candidate_rows: Int[Array, "M"]) -> Float[Array, "B M"]:
    """Removes the negatives that are the row's own positive under another index."""
    return remove_negatives(logits, candidate_rows[: len(logits), None] == candidate_rows[None, :])


def remove_negatives(logits: Float[Array, "B M"], removed: Bool[Array, "B M"]) -> Float[Array, "B M"]:
    """Gives the `removed` candidates of each row the probability 0; the positive always stays."""
    return jnp.where(removed & ~_is_positive(logits), -jnp.inf, logits)


def keep_hard_negatives(logits: Float[Array, "B M"], count: int) -> Float[Array, "B M"]:
    """Removes all negatives of each row but the `count` with the highest logits.

    Equal logits at the boundary are cut by column, lower first, so that exactly `count` negatives stay. Rows
    with fewer negatives keep all of them.
    """
    negatives = jnp.where(_is_positive(logits), -jnp.inf, logits)
    _, columns = jax.lax.top_k(negatives, min(count, logits.shape[1] - 1))
    kept = jnp.put_along_axis(jnp.zeros(logits.shape, bool), columns, True, axis=1, inplace=False)
    return remove_negatives(logits, ~kept)


def target(logits: Float[Array, "B M"], num_columns: int, label_smoothing: float) -> Float[Array, "B"]:
    """Returns the mean logit of each row under its target, from which its log-partition differs by the cross-entropy.

    That is the logit of column i in row i with the weight 1 - label_smoothing, and the mean over what is left of the
    first `num_columns` columns with the weight label_smoothing.
    """
    positives = jnp.diagonal(logits)
    if not label_smoothing:
        return positives
    columns = logits[:, :num_columns]
    mean = jnp.mean(columns, axis=1, where=columns > -jnp.inf)
    return (1 - label_smoothing) * positives + label_smoothing * mean


def _is_positive(logits: Float[Array, "B M"]) -> Bool[Array, "B M"]:
    return jnp.eye(*logits.shape, dtype=bool)
