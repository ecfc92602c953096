"""From the config's `loss` section to the objective that training minimises."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp

from retrieval.common.choices import check_choice
from retrieval.common.lists import Lists
from retrieval.config import schema as config_lib
from retrieval.data import popularity
from retrieval.data.encoding import Encoding, Examples
from retrieval.losses.log_partition import RowSets
from retrieval.objectives import (
    BPR,
    CosineContrastive,
    FullSoftmax,
    ImplicitSquared,
    InBatchSoftmax,
    Objective,
    query_weights,
)


def create_objective(loss: config_lib.Loss, pairs: Examples, examples: Examples, encoding: Encoding) -> Objective:
    """Creates the objective, with what it needs to know of the training part: as pairs, and as it is trained on.

    Raises:
      ValueError: there is no such loss or reduction.
    """
    check_choice("loss.reduction", loss.reduction, ("sum", "mean"))
    check_choice("loss.name", loss.name, OBJECTIVES)
    objective = OBJECTIVES[loss.name](loss, pairs, examples, encoding)
    if loss.candidate_l2_power == 1.0:
        return objective
    scale = popularity.penalty_scale(encoding.counts(pairs), loss.candidate_l2_power)
    return dataclasses.replace(objective, candidate_l2_scale=jnp.asarray(scale))


def _known(loss: config_lib.Loss, pairs: Examples, encoding: Encoding) -> RowSets | None:
    if not loss.remove_known_positives:
        return None
    lists = Lists.from_pairs(pairs.query_rows, pairs.candidate_rows, encoding.queries.num_rows)
    return RowSets.of(lists)


def _common(loss: config_lib.Loss) -> dict:
    return {"embedding_l2": loss.embedding_l2, "reduction": loss.reduction}


OBJECTIVES = {
    "in_batch_softmax": lambda loss, pairs, examples, encoding: InBatchSoftmax(
        _known(loss, pairs, encoding),
        log_q=loss.log_q,
        temperature=loss.temperature,
        scale_log_q=loss.scale_log_q,
        remove_accidental_hits=loss.remove_accidental_hits,
        num_hard_negatives=loss.num_hard_negatives,
        label_smoothing=loss.label_smoothing,
        **_common(loss),
    ),
    "full_softmax": lambda loss, pairs, examples, encoding: FullSoftmax(
        encoding.candidates.num_rows,
        _known(loss, pairs, encoding),
        temperature=loss.temperature,
        label_smoothing=loss.label_smoothing,
        **_common(loss),
    ),
    "implicit_squared": lambda loss, pairs, examples, encoding: ImplicitSquared(
        encoding.candidates.num_rows,
        query_weights(examples, encoding.queries.num_rows),
        loss.unobserved_weight,
        **_common(loss),
    ),
    "cosine_contrastive": lambda loss, pairs, examples, encoding: CosineContrastive(
        _known(loss, pairs, encoding),
        margin=loss.margin,
        negative_weight=loss.negative_weight,
        **_common(loss),
    ),
    "bpr": lambda loss, pairs, examples, encoding: BPR(_known(loss, pairs, encoding), **_common(loss)),
}
