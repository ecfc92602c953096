"""Computes the loss of a model on held-out examples."""

from __future__ import annotations

import jax
import numpy as np
from flax import nnx

from retrieval.batching.assembly import batches
from retrieval.batching.negatives import Negatives
from retrieval.batching.sampler import Sampler
from retrieval.data.encoding import Examples
from retrieval.models.binding import Params, bind
from retrieval.training.step import Loss


def mean_loss(
    model: nnx.Module,
    params: Params,
    loss: Loss,
    examples: Examples,
    *,
    batch_size: int,
    negatives: Negatives | None = None,
) -> float:
    """Returns the mean loss per example, over batches of the examples in their given order.

    An in-batch loss grows with the number of negatives: compare values of one batch size only.

    Args:
      model: the model that `params` belong to.
      params: the parameters to evaluate.
      loss: the objective of the training.
      examples: the held-out examples.
      batch_size: examples in a batch; the last batch is padded with examples of weight 0.
      negatives: the sampler settings of the training, whose frequencies the logQ correction reads; None: the logQ
        correction reads the frequencies of `examples`.
    """
    num_examples = len(examples.query_rows)
    sampler = None if negatives is None else Sampler(negatives)
    stacked = batches(examples, np.arange(num_examples), min(batch_size, num_examples), sampler=sampler)

    @jax.jit
    def sums_of(params, loss, stacked):
        return jax.lax.map(lambda batch: loss(bind(model, params), batch)[1], stacked)

    sums = sums_of(params, loss, stacked)
    return float(np.sum(sums["loss"]) / np.sum(sums["examples"]))
