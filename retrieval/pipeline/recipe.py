"""From a config and training data to the pieces that train and evaluate."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from retrieval.batching.batch import num_batches
from retrieval.batching.negatives import NONE, Negatives
from retrieval.common.choices import check_choice
from retrieval.common.lists import Lists
from retrieval.config import checks as settings
from retrieval.config import schema as config_lib
from retrieval.data import popularity
from retrieval.data.encoding import Encoding, Examples
from retrieval.data.ids import Ids
from retrieval.data.interactions import Interactions, Table
from retrieval.data.sequences import Windows
from retrieval.features.context import Columns, QueryContext
from retrieval.losses.log_partition import RowSets
from retrieval.models.fixed_towers import Blend, FixedTowers
from retrieval.models.two_tower import Params, TwoTower, bind
from retrieval.objectives import (
    BPR,
    CosineContrastive,
    FullSoftmax,
    ImplicitSquared,
    InBatchSoftmax,
    MultiTask,
    Objective,
    query_weights,
)
from retrieval.pipeline import additions, architecture
from retrieval.pipeline.architecture import Architecture
from retrieval.pipeline.examples import held_out_windows, of_windows, rating_weights
from retrieval.pipeline.tasks import NO_TASKS, Tasks
from retrieval.training.optimizers import by_name, row_penalty
from retrieval.training.optimizers.parameter_average import averaged
from retrieval.training.optimizers.schedules import schedule

QUERIES_A_CALL = 4096  # whose histories are on the device at a time


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What `train.fit` takes, and the vocabularies that its rows refer to.

    Attributes:
      encoding: vocabularies from the training part, and the corpus.
      examples: the training part in rows.
      architecture: the towers, with initial parameters, and what makes the columns that they read.
      loss: the objective.
      optimizer: the optax optimizer.
      negatives: what a batch holds beside its own positives.
      batch_size: examples a step; of windows, as many as have the targets that the config asks for on average.
      linear: a model that is not trained, whose score is added to that of the towers; None: there is none.
      tasks: what the heads of the model predict.
      recent_prior: what scores gain besides when the model answers, see `sampling.recent_prior`; None: nothing.
    """

    encoding: Encoding
    examples: Examples
    architecture: Architecture
    loss: Objective | MultiTask
    optimizer: optax.GradientTransformation
    negatives: Negatives
    batch_size: int
    linear: FixedTowers | None = None
    tasks: Tasks = NO_TASKS
    recent_prior: FixedTowers | None = None

    @property
    def model(self) -> TwoTower:
        """The two towers."""
        return self.architecture.model

    @property
    def num_examples(self) -> int:
        """The number of interactions that an epoch predicts."""
        rows = self.examples.candidate_rows
        return int(np.sum(rows != NONE)) if self.examples.are_windows else len(rows)

    @property
    def context(self) -> QueryContext:
        """What makes the columns that the query tower reads."""
        return self.architecture.context

    def query_embeddings(
        self, params: Params, query_ids: Ids, before: Interactions, times: Int[np.ndarray, "Q"] | None = None
    ) -> Float[Array, "Q D"]:
        """Returns the embeddings of queries.

        Args:
          params: the parameters.
          query_ids: raw ids [Q].
          before: interactions, of these queries and others, that their histories are taken from.
          times: of the requests in Unix seconds; None: the end of train.
        """
        rows, columns = self.encoding.queries.rows(query_ids), self.columns(query_ids, before, times)
        step = QUERIES_A_CALL if columns else max(len(rows), 1)
        pieces = [
            self._encoders[0](params, rows[i : i + step], {name: of[i : i + step] for name, of in columns.items()})
            for i in range(0, max(len(rows), 1), step)
        ]
        return jnp.concatenate(pieces)

    def columns(self, query_ids: Ids, before: Interactions, times: Int[np.ndarray, "Q"] | None = None) -> Columns:
        """Returns what the query tower reads besides the row; arguments as of `query_embeddings`."""
        if not self.context.length:  # all that is done before need not be gathered
            return self.context.of_requests(times, len(query_ids))
        return self.context.of_queries(self.encoding.histories(query_ids, before), times)

    def candidate_embeddings(self, params: Params) -> Float[Array, "N D"]:
        """Returns the embeddings of the whole corpus, in its order."""
        return self._encoders[1](params, self.encoding.corpus_rows)

    def held_out_examples(self, held_out: Interactions, before: Interactions) -> Examples:
        """Returns held-out interactions as examples, each after what its query did before all of them."""
        examples = self.encoding.examples(held_out)
        held_out = self.encoding.without_dislikes(held_out)
        if not self.context.length:
            context = self.context.of_requests(held_out.timestamps, len(held_out))
            return examples._replace(context=context, labels=self.tasks.labels(held_out.ratings))
        windows = held_out_windows(self.encoding, held_out, before, self.context.length)
        examples = of_windows(examples.query_rows, windows, np.ones(windows.rows.shape), self.context)
        return examples._replace(labels=self.tasks.labels(windows.ratings))

    @functools.cached_property
    def predict(self) -> Callable[[Params, Float[Array, "n E"], Float[Array, "n E"]], dict[str, Float[Array, "n"]]]:
        """Tells what the heads expect of pairs of embeddings, by the name of the task; see `TwoTower.predict`."""
        return jax.jit(lambda params, queries, candidates: self.bound(params).predict(queries, candidates))

    def bound(self, params: Params) -> TwoTower | Blend:
        """Returns the model that answers queries: the towers with these parameters, and what is added to them."""
        beside = [towers for towers in (self.linear, self.recent_prior) if towers is not None]
        return functools.reduce(Blend, beside, bind(self.model, params))

    @functools.cached_property
    def _encoders(self):
        def query(params, rows, columns):
            return self.bound(params).query(rows, columns).astype(jnp.float32)

        def candidate(params, rows):
            return self.bound(params).candidate(rows).astype(jnp.float32)

        return jax.jit(query), jax.jit(candidate)


def prepare(
    config: config_lib.Config,
    train: Interactions,
    corpus: Table,
    known: Interactions | None = None,
    queries: Table | None = None,
) -> Recipe:
    """Builds vocabularies, model, loss and optimizer for a training part.

    Args:
      config: the experiment.
      train: the training part.
      corpus: all candidates.
      known: whose ids have a row of their own; None: those of the training part.
      queries: attributes of the queries; None: they have none.

    Raises:
      ValueError: settings make no sense, see `settings.check`, or do not fit the data.
    """
    settings.check(config)
    encoding = Encoding.fit(
        train if known is None else known,
        corpus,
        config.data.dislike_at_most or None,
        queries=queries if architecture.reads_table(config.model.query) else None,
        has_features=architecture.reads_table(config.model.candidate),
    )
    examples = encoding.examples(train)
    _check_any(examples, train, config.data.dislike_at_most)
    counts = encoding.counts(examples)
    prior = popularity.log_prior(counts) if config.model.popularity_prior else None
    tasks = Tasks.fit(config.tasks, encoding.without_dislikes(train).ratings)
    heads = tasks.heads(config.model.embedding_dimension, config.train.seed)
    of_model = {"log_prior": prior, "heads": heads, "seed": config.train.seed}
    towers, pairs = architecture.create(config.model, encoding, train, queries, **of_model), examples
    examples, batch_size = create_examples(config, encoding, pairs, train, towers.context, tasks)
    loss = tasks.objective(create_loss(config.loss, pairs, examples, encoding), counts)
    optimizer = create_optimizer(config, towers.model, examples, counts, batch_size)
    negatives = create_negatives(config.negatives, counts, encoding.disliked(train))
    if examples.are_windows and (negatives.queue or negatives.dislikes):
        raise ValueError("negatives.queue and negatives.dislikes are not there for histories; set both to 0")
    linear = additions.linear(config, encoding, train)
    prior = additions.recent_prior(config, encoding, pairs, train)
    return Recipe(encoding, examples, towers, loss, optimizer, negatives, batch_size, linear, tasks, prior)


def _check_any(examples: Examples, train: Interactions, dislike_at_most: float) -> None:
    if not len(examples.query_rows):
        raise ValueError(
            f"none of the {len(train)} interactions of train is an example: data.dislike_at_most is {dislike_at_most}, "
            "and ratings up to it are dislikes; lower it"
        )


def create_examples(
    config: config_lib.Config,
    encoding: Encoding,
    examples: Examples,
    train: Interactions,
    context: QueryContext,
    tasks: Tasks,
) -> tuple[Examples, int]:
    """Returns the examples in the form that the query tower reads, and how many make a batch."""
    train = encoding.without_dislikes(train)
    weights = rating_weights(train.ratings, config.loss.rating_weight)
    if not context.length:
        batch_size = max(1, min(config.train.batch_size, len(train)))
        columns = context.of_requests(train.timestamps, len(train))
        weights = examples.weights if weights is None else weights
        return examples._replace(weights=weights, context=columns, labels=tasks.labels(train.ratings)), batch_size
    histories = encoding.histories(encoding.queries.ids, train)
    windows: Windows = histories.windows(context.length + 1)
    of_rating = (
        np.ones(windows.rows.shape)
        if weights is None
        else rating_weights(windows.ratings, config.loss.rating_weight, train.ratings)
    )
    examples = of_windows(1 + windows.owners, windows, of_rating, context)
    examples = examples._replace(labels=tasks.labels(windows.ratings))
    share = len(windows.owners) / max(int(windows.is_target.sum()), 1)
    return examples, max(1, min(round(config.train.batch_size * share), len(windows.owners)))


def create_optimizer(
    config: config_lib.Config,
    model: TwoTower,
    examples: Examples,
    candidate_counts: Float[np.ndarray, "N"],
    batch_size: int,
) -> optax.GradientTransformation:
    """Creates the optimizer with its regularisation, from `config.optimizer` and `config.train`.

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
    if settings.clip_norm:
        before.append(optax.clip_by_global_norm(settings.clip_norm))
    if settings.table_l2:
        counts = row_penalty.table_counts(model, np.bincount(examples.query_rows), candidate_counts)
        # the mean of the loss over a batch divides its penalty too
        share = 1.0 if config.loss.reduction == "sum" else 1 / train.batch_size
        strengths = {beginning: strength * share for beginning, strength in settings.table_l2.items()}
        of_rows = {"power": settings.table_l2_power, "steps_per_epoch": steps_per_epoch}
        before.append(row_penalty.row_penalty(row_penalty.row_rates(counts, strengths, **of_rows)))
    if settings.weight_decay:
        after.append(row_penalty.decay_matrices(settings.learning_rate * settings.weight_decay))
    if settings.schedule != "constant" or settings.warmup:
        steps = steps_per_epoch * train.epochs
        after.append(optax.scale_by_schedule(schedule(settings.schedule, steps, settings.warmup)))
    rule = by_name.create(settings.name, settings.learning_rate, **settings.arguments)
    optimizer = by_name.chained(rule, before, after)
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


def create_loss(loss: config_lib.Loss, pairs: Examples, examples: Examples, encoding: Encoding) -> Objective:
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
