"""The sampled softmax of two-tower retrieval, and its corrections as pure functions of logits.

The positive of row i of `queries` [B, D] is row i of `candidates` [M, D], M >= B; the other rows of `candidates` are
negatives of all queries. Corrections apply in the order of `sampled_softmax`, which is that of TensorFlow Recommenders'
`tasks.Retrieval`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from retrieval.losses.log_partition import scores_of
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
    """Returns the cross-entropy of each query's positive among the candidates of the batch, with corrections.

        loss_i = log sum_j exp(s_ij) - s_ii,    s_ij = q_i . c_j / T - log p_j

    over the columns j that no correction removes (Yi et al. 2019, "Sampling-bias-corrected neural modeling for large
    corpus item recommendations", equations 3 to 5). O(B M D) time and O(B M) memory; `folded_softmax` returns the same
    value from the distinct rows of a batch.

    Args:
      queries: outputs of the query tower [B, D].
      candidates: outputs of the candidate tower [M, D]; row i < B is the positive of query i.
      temperature: divides the scores.
      sampling_probabilities: the probability of each candidate under the sampler [M]; None: no logQ correction.
      scale_log_q: divides the logQ correction by the temperature as well, as Merlin Models does.
      accidental_hits_of: row of each candidate [M]; removes negatives with the row of the positive. None: they stay.
      known_positives: whether a candidate is another positive of the query [B, M]; these negatives are removed.
      mask: whether a candidate is a negative of the query [B, M]; other candidates are removed.
      own_negatives: final logits of further negatives of each query [B, H]; -inf for none.
      num_hard_negatives: keeps only that many negatives, those with the highest logits; 0: all.
      label_smoothing: share of the target that is spread evenly over the remaining columns, the positive included, own
        negatives excluded (Szegedy et al. 2016, "Rethinking the Inception architecture", section 7).
      weights: weight of each example [B]; None: 1.
      reduction: "sum", "mean" over the weights, or "none".

    Raises:
      ValueError: there are fewer candidates than queries, or the reduction is unknown.

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


def correct_log_q(
    logits: Float[Array, "B M"], probabilities: Float[Array, "M"], temperature: float = 1.0
) -> Float[Array, "B M"]:
    """Subtracts the log-probability of each candidate under the sampler (logQ), also from the positive.

    Without the correction, an in-batch softmax learns log p(candidate | query) - log p(candidate), which penalises
    popular candidates (Yi et al. 2019, "Sampling-bias-corrected neural modeling for large corpus item recommendations",
    equation 3). Probabilities are clipped to [1e-6, 1], as in TensorFlow Recommenders.

    >>> correct_log_q(jnp.zeros((1, 2)), jnp.array([1.0, 0.1]))  # - log 1 and - log 0.1
    Array([[0.       , 2.3025851]], dtype=float32)
    """
    return logits - log_q(probabilities)[None, :] / temperature


def log_q(probabilities: Float[Array, "M"]) -> Float[Array, "M"]:
    """Returns the log of sampling probabilities, after clipping them to [1e-6, 1]."""
    return jnp.log(jnp.clip(probabilities, MIN_SAMPLING_PROBABILITY, 1.0))


def remove_accidental_hits(logits: Float[Array, "B M"], candidate_rows: Int[Array, "M"]) -> Float[Array, "B M"]:
    """Removes the negatives of each query that have the same row as its positive.

    >>> remove_accidental_hits(jnp.zeros((2, 3)), jnp.array([7, 8, 7])).tolist()
    [[0.0, 0.0, -inf], [0.0, 0.0, 0.0]]
    """
    return remove_negatives(logits, candidate_rows[: len(logits), None] == candidate_rows[None, :])


def remove_negatives(logits: Float[Array, "B M"], removed: Bool[Array, "B M"]) -> Float[Array, "B M"]:
    """Sets the logits of `removed` candidates to -inf, and so their probability to 0; the positive always stays."""
    return jnp.where(removed & ~_is_positive(logits), -jnp.inf, logits)


def keep_hard_negatives(logits: Float[Array, "B M"], count: int) -> Float[Array, "B M"]:
    """Keeps the `count` negatives of each query with the highest logits, and removes the others.

    Of equal logits the lower columns are kept, so that exactly `count` negatives remain. A query with fewer negatives
    keeps all of them. O(B M log count) time.

    >>> keep_hard_negatives(jnp.array([[0.0, 3.0, 1.0, 3.0]]), 2).tolist()
    [[0.0, 3.0, -inf, 3.0]]
    """
    # top_k over all but the positive, which stays in any case and must not take the place of a negative
    negatives = jnp.where(_is_positive(logits), -jnp.inf, logits)
    _, columns = jax.lax.top_k(negatives, min(count, logits.shape[1] - 1))
    kept = jnp.put_along_axis(jnp.zeros(logits.shape, bool), columns, True, axis=1, inplace=False)
    return remove_negatives(logits, ~kept)


def target(logits: Float[Array, "B M"], num_columns: int, label_smoothing: float) -> Float[Array, "B"]:
    """Returns the expected logit of each row under its smoothed target; log-partition minus it is the cross-entropy.

    With e = label_smoothing it is (1 - e) * s_ii + e * mean_j s_ij, over the remaining ones of the first `num_columns`
    columns j.
    """
    positives = jnp.diagonal(logits)
    if not label_smoothing:
        return positives
    columns = logits[:, :num_columns]
    mean = jnp.mean(columns, axis=1, where=columns > -jnp.inf)
    return (1 - label_smoothing) * positives + label_smoothing * mean


def _is_positive(logits: Float[Array, "B M"]) -> Bool[Array, "B M"]:
    """Returns the mask of the positives: column i of row i."""
    return jnp.eye(*logits.shape, dtype=bool)
