"""Makes the `loss` and `regularization` sections of a config into the objective that training minimises."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from retrieval.config import schema as config_lib
from retrieval.data import popularity
from retrieval.data.encoding import Encoding, Examples
from retrieval.objectives import OBJECTIVES, Objective, TrainingRows


def create_objective(config: config_lib.Config, pairs: Examples, examples: Examples, encoding: Encoding) -> Objective:
    """Creates the objective.

    Args:
      config: the experiment.
      pairs: one example for each interaction of train.
      examples: the examples that are trained on: the pairs, or windows of histories.
      encoding: vocabularies.
    """
    loss, penalties = config.loss, config.regularization
    kind = OBJECTIVES[loss.name]
    rows = TrainingRows(pairs, examples, encoding.queries.num_rows, encoding.candidates.num_rows)
    options = {name: getattr(loss, name) for name in (*kind.options, "reduction")}
    objective = kind.create(rows, embedding_l2=penalties.embedding_l2, **options)
    if penalties.candidate_power == 1.0:
        return objective
    scale = popularity.penalty_scale(encoding.counts(pairs), penalties.candidate_power)
    return dataclasses.replace(objective, candidate_l2_scale=jnp.asarray(scale))
