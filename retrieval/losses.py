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

from retrieval.log_partition import (
    SCORES_PER_BLOCK,
    KnownPositives,
    log_partition,
    log_sum,
    scores_of,
    without_known,
)

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
    return reduce(cross_entropy(logits), weights, reduction)


class OwnNegatives(NamedTuple):
    """Negatives of single examples, which no other example sees.

    Attributes:
      places: where they stand among the distinct candidates [B, H].
      log_weights: log of how often each counts [B, H]; -inf where there is none.
    """

    places: Int[Array, "B H"]
    log_weights: Float[Array, "B H"]


def folded_softmax(
    queries: Float[Array, "U D"],
    candidates: Float[Array, "V D"],
    query_places: Int[Array, "B"],
    candidate_places: Int[Array, "B"],
    counts: Float[Array, "V"],
    *,
    temperature: float = 1.0,
    sampling_probabilities: Float[Array, "V"] | None = None,
    scale_log_q: bool = False,
    remove_accidental_hits: bool = False,
    known_positives: KnownPositives | None = None,
    own_negatives: OwnNegatives | None = None,
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

    A mask by example and hard negatives have no folded form: they tell equal candidates apart.

    Args:
      queries, candidates: embeddings of the distinct queries [U, D] and of the distinct candidates [V, D].
      query_places, candidate_places: where each example's query and its positive stand among them [B].
      counts: how many columns of the unfolded batch hold each candidate [V], extra negatives included; 0 for padding.
      temperature, scale_log_q, reduction: as in `sampled_softmax`.
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
    totals, score = sums(queries, candidates, query_places, bias, known_positives, temperature, scores_per_block)
    positives = score(candidate_places) + shift[candidate_places]
    removed = jnp.zeros(len(positives), bool)
    if known_positives is not None:
        removed = known_positives.positives.contain(query_places, known_positives.rows[candidate_places])
    totals = jnp.where((totals == -jnp.inf) & ~removed, positives, totals)  # what fills up a batch may have no column
    if remove_accidental_hits:
        held = jnp.where(removed, jnp.inf, totals)  # of a removed positive no copy is left to subtract
        share = jnp.maximum(counts[candidate_places] - 1, 0.0) * jnp.exp(positives - held)
        totals += jnp.log1p(-jnp.minimum(share, 1 - jnp.finfo(totals.dtype).eps))
    totals = jnp.where(removed, jnp.logaddexp(totals, positives), totals)
    if own_negatives is not None:
        totals = jnp.logaddexp(totals, log_sum(score(own_negatives.places) + own_negatives.log_weights))
    return reduce(totals - positives, weights, reduction)


def _dense_sums(queries, candidates, query_places, bias, known, temperature, _):
    """Returns each example's log-partition, and a function from places [B, ...] to the scores there."""
    scores = scores_of(queries, candidates) / temperature  # [U, V]
    columns = scores + bias[None, :]
    if known is not None:
        columns = without_known(columns, known)

    def score(places):
        return scores[query_places.reshape((-1,) + (1,) * (places.ndim - 1)), places]

    return log_sum(columns)[query_places], score


def _blocked_sums(queries, candidates, query_places, bias, known, temperature, scores_per_block):
    """Does what `_dense_sums` does without holding all scores."""
    totals = log_partition(queries, candidates, bias, known, temperature=temperature, scores_per_block=scores_per_block)

    def score(places):
        kind = {"preferred_element_type": totals.dtype, "precision": jax.lax.Precision.HIGHEST}
        return jnp.einsum("bd,b...d->b...", queries[query_places], candidates[places], **kind) / temperature

    return totals[query_places], score


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


def cross_entropy(logits: Float[Array, "B M"]) -> Float[Array, "B"]:
    """Returns -log softmax of column i of each row i."""
    return jax.nn.logsumexp(logits, axis=1) - jnp.diagonal(logits)


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
    top: int = 10,
) -> str:
    """Returns a table of how `sampled_softmax` comes to one example's loss: its logits, and each correction of them.

    A line for the positive and for each of the `top` columns with the highest score: the score, what each correction
    adds to it, the final logit, its share of the softmax, and why a column is removed. Arguments are those of
    `sampled_softmax`; columns from M on are the example's own negatives.

    >>> print(explain(jnp.ones((1, 1)), jnp.log(jnp.array([[1.0], [3.0]])), 0))
    loss 1.3863 = log(sum of exp) 1.3863 - positive 0.0000; 2 of 2 columns left
      column      score     - logQ      logit    softmax
           0     0.0000     0.0000     0.0000     0.2500  positive
           1     1.0986     0.0000     1.0986     0.7500
    """
    own = jnp.zeros(0) if own_negatives is None else own_negatives[example]
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
    logits = jnp.concatenate([logits, own[None, :]], axis=1)
    if num_hard_negatives > 0:
        before, logits = logits, keep_hard_negatives(logits, num_hard_negatives)
        removed["not among the hardest"] = jnp.where(before == -jnp.inf, 0.0, logits)
    reasons = {why: masked[0] == -jnp.inf for why, masked in removed.items()}
    return _table(order, scores[0], shifted[0] - scores[0], logits[0], own, reasons, top)


def _table(order, scores, shifts, logits, own, removed, top):
    """Returns the lines of `explain`; the last columns are own negatives, whose logits come from the caller."""
    columns = [*order.tolist(), *range(len(order), len(logits))]
    scores, shifts = jnp.concatenate([scores, own]), jnp.concatenate([shifts, jnp.zeros_like(own)])
    total, left = jax.nn.logsumexp(logits), int(jnp.sum(logits > -jnp.inf))
    lines = [
        f"loss {total - logits[0]:.4f} = log(sum of exp) {total:.4f} - positive {logits[0]:.4f}; "
        f"{left} of {len(logits)} columns left",
        f"{'column':>8} {'score':>10} {'- logQ':>10} {'logit':>10} {'softmax':>10}",
    ]
    highest = [0] + [i for i in jnp.argsort(-scores).tolist() if i > 0][:top]
    for i in highest:
        reasons = [why for why, is_removed in removed.items() if i < len(is_removed) and is_removed[i]]
        what = ["positive"] if i == 0 else ["own negative"] if i >= len(order) else []
        numbers = (scores[i], shifts[i], logits[i], jnp.exp(logits[i] - total))
        lines.append(f"{columns[i]:>8}" + "".join(f" {n:>10.4f}" for n in numbers) + "  " + ", ".join(what + reasons))
    return "\n".join(line.rstrip() for line in lines)


def reduce(
    losses: Float[Array, "B"], weights: Float[Array, "B"] | None, reduction: str
) -> Float[Array, ""] | Float[Array, "B"]:
    """Returns the weighted losses ("none"), their sum, or their mean: the sum over the sum of the weights.

    The sum ties the learning rate to the batch size; the mean does not. The mean is 0 where all weights are.
    """
    weights = jnp.ones_like(losses) if weights is None else weights
    if reduction == "none":
        return weights * losses
    if reduction == "sum":
        return jnp.sum(weights * losses)
    if reduction == "mean":
        total = jnp.sum(weights)
        return jnp.where(total > 0, jnp.sum(weights * losses) / jnp.where(total > 0, total, 1.0), 0.0)
    raise ValueError(f"reduction must be 'sum', 'mean' or 'none', got {reduction!r}")


def _is_positive(logits: Float[Array, "B M"]) -> Bool[Array, "B M"]:
    return jnp.eye(*logits.shape, dtype=bool)
