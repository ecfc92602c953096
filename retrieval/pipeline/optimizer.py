"""Makes the `optimizer`, `regularization` and `train` sections of a config into an optax optimizer."""

from __future__ import annotations

import numpy as np
import optax
from jaxtyping import Float

from retrieval.batching.batch import NO_ROW
from retrieval.batching.folding import num_batches
from retrieval.config import schema as config_lib
from retrieval.data.encoding import Examples
from retrieval.models.two_tower import TwoTower
from retrieval.training.optimizers import by_name, row_penalty
from retrieval.training.optimizers.parameter_average import averaged
from retrieval.training.optimizers.schedules import schedule


def create_optimizer(
    config: config_lib.Config,
    model: TwoTower,
    examples: Examples,
    candidate_counts: Float[np.ndarray, "N"],
    batch_size: int,
) -> optax.GradientTransformation:
    """Creates the optimizer with frequency-scaled L2, weight decay, schedule and EMA, as far as the config sets them.

    Args:
      config: the experiment.
      model: the two towers, whose embedding tables may have a penalty.
      examples: the training examples.
      candidate_counts: how often each candidate row occurs in train [N].
      batch_size: examples a step.
    """
    section, train = config.optimizer, config.train
    steps_per_epoch = num_batches(len(examples.query_rows), batch_size)
    before, after = [], []
    if config.regularization.table_l2:
        counts = row_penalty.table_counts(model, np.bincount(examples.query_rows), candidate_counts)
        # A loss that is a mean over the batch is divided by the sum of its weights, and so has the penalty to be. Over
        # an epoch the shares of the examples add up to its steps, whatever the size of its last batch.
        total_weight = np.sum(examples.weights, where=examples.candidate_rows != NO_ROW, dtype=np.float64)
        share = 1.0 if config.loss.reduction == "sum" else steps_per_epoch / total_weight
        strengths = {beginning: strength * share for beginning, strength in config.regularization.table_l2.items()}
        rates = row_penalty.row_rates(counts, strengths, power=1.0, steps_per_epoch=steps_per_epoch)
        before.append(row_penalty.row_penalty(rates))
    if section.weight_decay:
        after.append(row_penalty.decay_matrices(section.learning_rate * section.weight_decay))
    if section.schedule != "constant" or section.warmup:
        steps = steps_per_epoch * train.epochs
        after.append(optax.scale_by_schedule(schedule(section.schedule, steps, section.warmup)))
    rule = by_name.create(section.name, section.learning_rate, **section.arguments)
    optimizer = by_name.chained(rule, before, after)
    return averaged(optimizer, train.average) if train.average else optimizer
