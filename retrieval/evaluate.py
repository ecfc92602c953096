"""Evaluation against the full corpus: embeddings -> exact ranks -> metrics."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Float32

from retrieval import metrics
from retrieval.data.batches import batches
from retrieval.data.encoding import Examples, Targets
from retrieval.data.negatives import Negatives, Sampler
from retrieval.models.two_tower import Params, bind
from retrieval.ranks import Ranks, rank
from retrieval.train import Loss

USER_METRICS = {"precision": metrics.precision_at, "recall": metrics.recall_at, "ndcg": metrics.ndcg_at}


def evaluate(
    queries: Float[Array, "Q D"] | Float32[np.ndarray, "Q D"],
    candidates: Float[Array, "N D"] | Float32[np.ndarray, "N D"],
    targets: Targets,
    *,
    ks: Sequence[int],
    top_k_accuracies: Sequence[int] = (),
) -> dict[str, float]:
    """Returns the metrics of embeddings, by name.

    - `including_seen/{precision,recall,ndcg}_at_{k}` and `excluding_seen/...`: means over the queries, each
      counting once; with the candidates that the query has in train left among the others, or taken out, if
      `targets` tells them.
    - `factorized_top_k/top_{k}_categorical_accuracy`: the share of interactions whose candidate is among the
      first k, nothing taken out and ties counted as hits, as in TensorFlow Recommenders.

    Args:
      queries: embedding of each query of `targets` [Q, D].
      candidates: embedding of each candidate of the corpus [N, D].
      targets: what is relevant, and what the query has in train.
      ks: lengths of the lists that the user-level metrics look at.
      top_k_accuracies: likewise of the interaction-level accuracies.

    Raises:
      ValueError: a k exceeds the corpus, or an embedding is not finite.
    """
    check_ks([*ks, *top_k_accuracies], len(candidates))
    _check_finite("query", queries)
    _check_finite("candidate", candidates)
    including = rank(queries, candidates, targets.relevant)
    results = {
        f"factorized_top_k/top_{k}_categorical_accuracy": metrics.top_k_accuracy(including.optimistic, k)
        for k in top_k_accuracies
    }
    results |= _user_level("including_seen", including, targets, ks)
    if targets.seen is not None:
        excluding = rank(queries, candidates, targets.relevant, targets.seen)
        results |= _user_level("excluding_seen", excluding, targets, ks)
    return results


def mean_loss(
    model: nnx.Module,
    params: Params,
    loss: Loss,
    examples: Examples,
    *,
    batch_size: int,
    negatives: Negatives | None = None,
) -> float:
    """Returns the loss an example, over batches of the examples in their order.

    An in-batch loss grows with the number of negatives: compare figures of one batch size. `negatives` are those of
    the training, whose frequencies the logQ correction takes; None: those of the examples themselves.
    """
    num_examples = len(examples.query_rows)
    sampler = None if negatives is None else Sampler(negatives)
    stacked = batches(examples, np.arange(num_examples), min(batch_size, num_examples), sampler=sampler)

    @jax.jit
    def sums_of(params, loss, stacked):
        return jax.lax.map(lambda batch: loss(bind(model, params), batch)[1], stacked)

    sums = sums_of(params, loss, stacked)
    return float(jnp.sum(sums["loss"]) / jnp.sum(sums["examples"]))


def _user_level(prefix: str, ranks: Ranks, targets: Targets, ks: Sequence[int]) -> dict[str, float]:
    relevant, places = targets.relevant.distinct()  # a repeated interaction is no second hit
    return {
        f"{prefix}/{name}_at_{k}": float(np.mean(metric(ranks.ordinal[places], relevant, k)))
        for name, metric in USER_METRICS.items()
        for k in ks
    }


def check_ks(ks: Sequence[int], corpus_size: int) -> None:
    """Checks the lengths of lists against the number of candidates.

    Raises:
      ValueError: a k is below 1 or exceeds the corpus.
    """
    if ks and not 1 <= min(ks) <= max(ks) <= corpus_size:
        raise ValueError(f"k must be in [1, {corpus_size}], the size of the corpus, got {sorted(ks)}")


def _check_finite(name: str, embeddings) -> None:
    bad = np.flatnonzero(~np.isfinite(np.asarray(embeddings)).all(axis=1))
    if len(bad):
        raise ValueError(f"{len(bad)} {name} embeddings are not finite, the first in row {bad[0]}")
