"""From the config's `optimizer`, `regularization` and `train` sections to an optax optimizer."""

from __future__ import annotations

import numpy as np
import optax
from jaxtyping import Float

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
    """Creates the optimizer with its regularisation, from `config.optimizer`,
    `config.regularization` and `config.train`.

    Args:
      config: the experiment.
      model: whose tables may have a penalty.
      examples: the training examples.
      candidate_counts: how often each candidate row occurs in them.
      batch_size: examples a step.
    """
    settings, train = config.optimizer, config.train
    steps_per_epoch = num_batches(len(examples.query_rows), batch_size)
    before, after = [], []
    if config.regularization.table_l2:
        counts = row_penalty.table_counts(model, np.bincount(examples.query_rows), candidate_counts)
        # the mean of the loss over a batch divides its penalty too
        share = 1.0 if config.loss.reduction == "sum" else 1 / train.batch_size
        strengths = {beginning: strength * share for beginning, strength in config.regularization.table_l2.items()}
        rates = row_penalty.row_rates(counts, strengths, power=1.0, steps_per_epoch=steps_per_epoch)
        before.append(row_penalty.row_penalty(rates))
    if settings.weight_decay:
        after.append(row_penalty.decay_matrices(settings.learning_rate * settings.weight_decay))
    if settings.schedule != "constant" or settings.warmup:
        steps = steps_per_epoch * train.epochs
        after.append(optax.scale_by_schedule(schedule(settings.schedule, steps, settings.warmup)))
    rule = by_name.create(settings.name, settings.learning_rate, **settings.arguments)
    optimizer = by_name.chained(rule, before, after)
    return averaged(optimizer, train.average) if train.average else optimizer
