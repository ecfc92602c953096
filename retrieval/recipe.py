"""From a config and training data to the pieces that train and evaluate."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int

from retrieval import config as config_lib
from retrieval import optimizers, penalties, sampling
from retrieval.averages import averaged
from retrieval.data.batches import num_batches
from retrieval.data.encoding import Encoding, Examples
from retrieval.data.interactions import Interactions, Table
from retrieval.data.negatives import Negatives
from retrieval.lists import Lists
from retrieval.log_partition import RowSets
from retrieval.models.towers import IdTower
from retrieval.models.two_tower import Params, TwoTower, bind
from retrieval.objectives import InBatchSoftmax
from retrieval.schedules import schedule

PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What `train.fit` takes, and the vocabularies that its rows refer to.

    Attributes:
      encoding: vocabularies from the training part, and the corpus.
      examples: the training part in rows.
      model: the towers, with initial parameters.
      loss: the objective.
      optimizer: the optax optimizer.
      negatives: what a batch holds beside its own positives.
    """

    encoding: Encoding
    examples: Examples
    model: TwoTower
    loss: InBatchSoftmax
    optimizer: optax.GradientTransformation
    negatives: Negatives

    def query_embeddings(self, params: Params, rows: Int[np.ndarray, "Q"]) -> Float[Array, "Q D"]:
        """Returns the embeddings of query rows."""
        return self._encoders[0](params, rows)

    def candidate_embeddings(self, params: Params) -> Float[Array, "N D"]:
        """Returns the embeddings of the whole corpus, in its order."""
        return self._encoders[1](params, self.encoding.corpus_rows)

    @functools.cached_property
    def _encoders(self):
        return (
            jax.jit(lambda params, rows: bind(self.model, params).query(rows).astype(jnp.float32)),
            jax.jit(lambda params, rows: bind(self.model, params).candidate(rows).astype(jnp.float32)),
        )


def prepare(config: config_lib.Config, train: Interactions, corpus: Table, known: Interactions | None = None) -> Recipe:
    """Builds vocabularies, model, loss and optimizer for a training part.

    Args:
      config: the experiment.
      train: the training part.
      corpus: all candidates.
      known: whose ids have a row of their own; None: those of the training part.
    """
    encoding = Encoding.fit(train if known is None else known, corpus, config.data.dislike_at_most or None)
    examples = encoding.examples(train)
    counts = encoding.counts(examples)
    model = create_model(
        config.model,
        num_query_rows=encoding.queries.num_rows,
        num_candidate_rows=encoding.candidates.num_rows,
        log_prior=sampling.log_prior(counts) if config.model.popularity_prior else None,
        seed=config.train.seed,
    )
    loss = create_loss(config.loss, examples, encoding.queries.num_rows)
    optimizer = create_optimizer(config, model, examples, counts)
    negatives = create_negatives(config.negatives, counts, encoding.disliked(train))
    return Recipe(encoding, examples, model, loss, optimizer, negatives)


def create_model(
    model: config_lib.Model,
    *,
    num_query_rows: int,
    num_candidate_rows: int,
    log_prior: Float[np.ndarray, "N"] | None,
    seed: int,
) -> TwoTower:
    """Creates the two id towers."""
    if model.precision not in PRECISIONS:
        raise ValueError(f"model.precision must be one of {', '.join(PRECISIONS)}, got {model.precision!r}")
    common = {"initial_scale": model.initial_scale, "dtype": PRECISIONS[model.precision], "rngs": nnx.Rngs(seed)}

    def tower(num_rows, hidden_sizes):
        return IdTower(num_rows, model.embedding_dimension, hidden_sizes, **common)

    return TwoTower(
        tower(num_query_rows, model.query_hidden_sizes),
        tower(num_candidate_rows, model.candidate_hidden_sizes),
        log_prior,
    )


def create_optimizer(
    config: config_lib.Config, model: TwoTower, examples: Examples, candidate_counts: Float[np.ndarray, "N"]
) -> optax.GradientTransformation:
    """Creates the optimizer with its regularisation, from `config.optimizer` and `config.train`.

    Args:
      config: the experiment.
      model: whose tables may have a penalty.
      examples: the training examples.
      candidate_counts: how often each candidate row occurs in them.
    """
    settings, train = config.optimizer, config.train
    steps_per_epoch = num_batches(len(examples.query_rows), train.batch_size)
    before, after = [], []
    if settings.clip_norm:
        before.append(optax.clip_by_global_norm(settings.clip_norm))
    if settings.table_l2:
        counts = penalties.table_counts(model, np.bincount(examples.query_rows), candidate_counts)
        # the mean of the loss over a batch divides its penalty too
        share = 1.0 if config.loss.reduction == "sum" else 1 / train.batch_size
        strengths = {beginning: strength * share for beginning, strength in settings.table_l2.items()}
        of_rows = {"power": settings.table_l2_power, "steps_per_epoch": steps_per_epoch}
        before.append(penalties.row_penalty(penalties.row_rates(counts, strengths, **of_rows)))
    if settings.weight_decay:
        after.append(penalties.decay_matrices(settings.learning_rate * settings.weight_decay))
    if settings.schedule != "constant" or settings.warmup:
        steps = steps_per_epoch * train.epochs
        after.append(optax.scale_by_schedule(schedule(settings.schedule, steps, settings.warmup)))
    rule = optimizers.create(settings.name, settings.learning_rate, **settings.arguments)
    optimizer = optimizers.chained(rule, before, after)
    return averaged(optimizer, train.average) if train.average else optimizer


def create_negatives(
    negatives: config_lib.Negatives, counts: Float[np.ndarray, "N"], disliked: Lists | None
) -> Negatives:
    """Creates the sampler of the batches' negatives, with frequencies from train."""
    if negatives.frequencies not in ("train", "stream"):
        raise ValueError(f"negatives.frequencies must be 'train' or 'stream', got {negatives.frequencies!r}")
    return Negatives(
        counts,
        uniform=negatives.uniform,
        popular=negatives.popular,
        power=negatives.power,
        queue=negatives.queue,
        disliked=disliked,
        dislikes=negatives.dislikes,
        estimated=negatives.frequencies == "stream",
    )


def create_loss(loss: config_lib.Loss, examples: Examples, num_query_rows: int) -> InBatchSoftmax:
    """Creates the objective, with the known positives of the examples if it asks for them."""
    if loss.reduction not in ("sum", "mean"):
        raise ValueError(f"loss.reduction must be 'sum' or 'mean', got {loss.reduction!r}")
    known = None
    if loss.remove_known_positives:
        known = RowSets.of(Lists.from_pairs(examples.query_rows, examples.candidate_rows, num_query_rows))
    return InBatchSoftmax(
        known,
        log_q=loss.log_q,
        temperature=loss.temperature,
        scale_log_q=loss.scale_log_q,
        remove_accidental_hits=loss.remove_accidental_hits,
        num_hard_negatives=loss.num_hard_negatives,
        embedding_l2=loss.embedding_l2,
        reduction=loss.reduction,
    )
