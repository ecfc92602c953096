"""Explains the sampled softmax of one example as a table."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from retrieval.losses.log_partition import scores_of
from retrieval.losses.softmax import (
    correct_log_q,
    keep_hard_negatives,
    remove_accidental_hits,
    remove_negatives,
    target,
)


def explain(
    queries: Float[Array, "B D"],
    candidates: Float[Array, "M D"],
    example: int,
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
    top: int = 10,
) -> str:
    """Returns a table of the logits of one example in `sampled_softmax`, with each correction of them.

    It has a line for the positive and for each of the `top` columns with the highest scores: the score, the logQ
    correction, the final logit, the probability in the softmax, and the reason why a column is removed. Columns from M
    on are the example's own negatives.

    Args:
      queries, candidates: embeddings [B, D] and [M, D].
      example: index of the example, in [0, B).
      top: number of columns to show beside the positive.
      Other arguments: see `sampled_softmax`.

    >>> print(explain(jnp.ones((1, 1)), jnp.log(jnp.array([[1.0], [3.0]])), 0))
    loss 1.3863 = log(sum of exp) 1.3863 - positive 0.0000; 2 of 2 columns left
      column      score     - logQ      logit    softmax
           0     0.0000     0.0000     0.0000     0.2500  positive
           1     1.0986     0.0000     1.0986     0.7500
    """
    own_logits = jnp.zeros(0) if own_negatives is None else own_negatives[example]
    order = jnp.concatenate([jnp.array([example]), jnp.delete(jnp.arange(len(candidates)), example)])
    scores = scores_of(queries[example][None, :], candidates[order]) / temperature  # [1, M], the positive first
    shifted, removed = scores, {}
    if sampling_probabilities is not None:
        shifted = correct_log_q(scores, sampling_probabilities[order], temperature if scale_log_q else 1.0)
    if accidental_hits_of is not None:
        removed["accidental hit"] = remove_accidental_hits(scores, accidental_hits_of[order])
    if known_positives is not None:
        removed["known positive"] = remove_negatives(scores, known_positives[example][order][None, :])
    if mask is not None:
        removed["masked"] = remove_negatives(scores, ~mask[example][order][None, :])
    logits = shifted
    for masked in removed.values():
        logits = jnp.where(masked == -jnp.inf, -jnp.inf, logits)
    logits = jnp.concatenate([logits, own_logits[None, :]], axis=1)
    if num_hard_negatives > 0:
        before, logits = logits, keep_hard_negatives(logits, num_hard_negatives)
        removed["not among the hardest"] = jnp.where(before == -jnp.inf, 0.0, logits)
    reasons = {reason: masked[0] == -jnp.inf for reason, masked in removed.items()}
    total, aim = jax.nn.logsumexp(logits[0]), target(logits, len(candidates), label_smoothing)[0]
    name = "positive" if label_smoothing == 0 else "smoothed target"
    num_left = int(jnp.sum(logits > -jnp.inf))
    summary = f"loss {total - aim:.4f} = log(sum of exp) {total:.4f} - {name} {aim:.4f}; "
    summary += f"{num_left} of {logits.shape[1]} columns left"
    shifts = shifted[0] - scores[0]
    return "\n".join([summary, *_lines(order, scores[0], shifts, logits[0], own_logits, reasons, top)])


def _lines(order, scores, shifts, logits, own_logits, removed, top):
    """Returns the lines of the table; its last columns are the example's own negatives, with their final logits."""
    columns = [*order.tolist(), *range(len(order), len(logits))]
    scores, shifts = jnp.concatenate([scores, own_logits]), jnp.concatenate([shifts, jnp.zeros_like(own_logits)])
    total = jax.nn.logsumexp(logits)
    lines = [f"{'column':>8} {'score':>10} {'- logQ':>10} {'logit':>10} {'softmax':>10}"]
    highest = [0] + [i for i in jnp.argsort(-scores).tolist() if i > 0][:top]
    for i in highest:
        reasons = [reason for reason, is_removed in removed.items() if i < len(is_removed) and is_removed[i]]
        roles = ["positive"] if i == 0 else ["own negative"] if i >= len(order) else []
        numbers = (scores[i], shifts[i], logits[i], jnp.exp(logits[i] - total))
        lines.append(f"{columns[i]:>8}" + "".join(f" {n:>10.4f}" for n in numbers) + "  " + ", ".join(roles + reasons))
    return [line.rstrip() for line in lines]
