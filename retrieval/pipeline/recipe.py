"""Makes a config and training data into the pieces that training and evaluation take."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from retrieval.batching.batch import NO_ROW
from retrieval.batching.negatives import Negatives
from retrieval.config import schema as config_lib
from retrieval.config.remedies import naming_fields
from retrieval.data import popularity
from retrieval.data.dataset import Dataset
from retrieval.data.encoding import Encoding, Examples
from retrieval.data.ids import Ids
from retrieval.data.interactions import Interactions, Table
from retrieval.features.context import Columns, QueryContext
from retrieval.models.binding import Params, bind
from retrieval.models.fixed_towers import Blend, FixedTowers
from retrieval.models.two_tower import TwoTower
from retrieval.objectives import MultiTask, Objective
from retrieval.pipeline import additions, architecture
from retrieval.pipeline.architecture import Architecture
from retrieval.pipeline.checks import check_experiment
from retrieval.pipeline.examples import create_examples, create_negatives, held_out_windows, window_examples
from retrieval.pipeline.feature_encoders import reads_table
from retrieval.pipeline.objective import create_objective
from retrieval.pipeline.optimizer import create_optimizer
from retrieval.pipeline.tasks import NO_TASKS, Tasks

QUERIES_A_CALL = 4096  # whose histories are on the device at a time


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that `retrieval.fit` takes, with the vocabularies that map ids to its rows.

    Attributes:
      encoding: vocabularies of the training part, and the corpus.
      examples: the training examples, in rows of the vocabularies.
      architecture: the towers with initial parameters, and the encoders of the columns that they read.
      loss: the objective.
      optimizer: the optax optimizer.
      negatives: the sampler of a batch's negatives beside its own positives.
      batch_size: examples a step. Windows of histories have several targets each: their number is chosen so that a
        batch has `train.batch_size` targets on average.
      tasks: what the heads of the model predict.
      additions: models whose scores are added to those of the towers when queries are answered.
    """

    encoding: Encoding
    examples: Examples
    architecture: Architecture
    loss: Objective | MultiTask
    optimizer: optax.GradientTransformation
    negatives: Negatives
    batch_size: int
    tasks: Tasks = NO_TASKS
    additions: tuple[FixedTowers, ...] = ()

    @property
    def model(self) -> TwoTower:
        """The two towers."""
        return self.architecture.model

    @property
    def num_examples(self) -> int:
        """The number of interactions that an epoch has as targets."""
        rows = self.examples.candidate_rows
        return int(np.sum(rows != NO_ROW)) if self.examples.are_windows else len(rows)

    @property
    def context(self) -> QueryContext:
        """The maker of the columns that the query tower reads beside the row."""
        return self.architecture.context

    def query_embeddings(
        self, params: Params, query_ids: Ids, before: Interactions, times: Int[np.ndarray, "Q"] | None = None
    ) -> Float[Array, "Q D"]:
        """Returns the embeddings of queries.

        Args:
          params: the parameters.
          query_ids: raw ids [Q].
          before: interactions that the histories of the queries are taken from; may hold other queries too.
          times: Unix seconds of the requests [Q]; None: the end of train.
        """
        rows, columns = self.encoding.queries.rows(query_ids), self.columns(query_ids, before, times)
        step = QUERIES_A_CALL if columns else max(len(rows), 1)
        pieces = []
        for start in range(0, max(len(rows), 1), step):
            part = slice(start, start + step)
            columns_of_part = {name: column[part] for name, column in columns.items()}
            pieces.append(self._encoders[0](params, rows[part], columns_of_part))
        return jnp.concatenate(pieces)

    def columns(self, query_ids: Ids, before: Interactions, times: Int[np.ndarray, "Q"] | None = None) -> Columns:
        """Returns the columns that the query tower reads beside the row; for arguments see `query_embeddings`."""
        if not self.context.length:  # a tower without histories: gathering them would cost time for nothing
            return self.context.of_requests(times, len(query_ids))
        return self.context.of_queries(self.encoding.histories(query_ids, before), times)

    def candidate_embeddings(self, params: Params) -> Float[Array, "N D"]:
        """Returns the embeddings of all candidates, in the order of the corpus."""
        return self._encoders[1](params, self.encoding.corpus_rows)

    def held_out_examples(self, held_out: Interactions, before: Interactions) -> Examples:
        """Returns held-out interactions as examples, each with the history that its query has in `before`."""
        examples = self.encoding.examples(held_out)
        held_out = self.encoding.without_dislikes(held_out)
        if not self.context.length:
            context = self.context.of_requests(held_out.timestamps, len(held_out))
            return examples._replace(context=context, labels=self.tasks.labels(held_out.ratings))
        windows = held_out_windows(self.encoding, held_out, before, self.context.length)
        examples = window_examples(examples.query_rows, windows, np.ones(windows.rows.shape), self.context)
        return examples._replace(labels=self.tasks.labels(windows.ratings))

    @functools.cached_property
    def predict(self) -> Callable[[Params, Float[Array, "n E"], Float[Array, "n E"]], dict[str, Float[Array, "n"]]]:
        """Returns the predictions of the heads for pairs of embeddings, by task; the jitted `TwoTower.predict`."""
        return jax.jit(lambda params, queries, candidates: self.bound(params).predict(queries, candidates))

    def bound(self, params: Params) -> TwoTower | Blend:
        """Returns the model that answers queries: the towers with these parameters, plus the additions."""
        return functools.reduce(Blend, self.additions, bind(self.model, params))

    @functools.cached_property
    def _encoders(self):
        def query(params, rows, columns):
            return self.bound(params).query(rows, columns).astype(jnp.float32)

        def candidate(params, rows):
            return self.bound(params).candidate(rows).astype(jnp.float32)

        return jax.jit(query), jax.jit(candidate)


@naming_fields()
def prepare(
    config: config_lib.Config,
    train: Interactions,
    corpus: Table,
    known: Interactions | None = None,
    queries: Table | None = None,
) -> Recipe:
    """Prepares a training: vocabularies, examples, model, objective, optimizer and additions.

    Args:
      config: the experiment.
      train: the training part.
      corpus: all candidates.
      known: the interactions whose ids get a row in the vocabularies; None: those of the training part.
      queries: attributes of the queries; None: there are none.

    Raises:
      ValueError: the config contradicts itself, see `check_experiment`, or does not fit the data.
    """
    check_experiment(config)
    encoding = Encoding.fit(
        train if known is None else known,
        corpus,
        config.data.dislike_at_most or None,
        queries=queries if reads_table(config.model.query) else None,
        has_features=reads_table(config.model.candidate),
    )
    pairs = encoding.examples(train)
    _check_any(pairs, train, config.data.dislike_at_most)
    counts = encoding.counts(pairs)
    # the loss divides scores by its temperature: multiplied by it, the prior makes the softmax start at popularity
    prior = (
        np.float32(config.loss.temperature) * popularity.log_prior(counts) if config.model.popularity_prior else None
    )
    tasks = Tasks.fit(config.tasks, encoding.without_dislikes(train).ratings)
    heads = tasks.heads(config.model.embedding_dimension, config.train.seed)
    towers = architecture.create(
        config.model, encoding, train, queries, log_prior=prior, heads=heads, seed=config.train.seed
    )
    examples, batch_size = create_examples(config, encoding, pairs, train, towers.context, tasks)
    optimizer = create_optimizer(config, towers.model, examples, counts, batch_size)
    negatives = create_negatives(config.negatives, counts, encoding.disliked(train))
    if examples.are_windows and (negatives.queue or negatives.dislikes):
        raise ValueError(
            f"negatives.queue is {negatives.queue} and negatives.dislikes {negatives.dislikes}, and neither works with "
            "model.history.encoder; set both to 0"
        )
    objective = create_objective(config, pairs, examples, encoding)
    loss = tasks.objective(objective, pairs, negatives, config.train.batch_size)
    added = additions.fit_all(additions.Fitting(config, encoding, pairs, train))
    return Recipe(encoding, examples, towers, loss, optimizer, negatives, batch_size, tasks, added)


def _check_any(examples: Examples, train: Interactions, dislike_at_most: float) -> None:
    """Raises ValueError if every interaction is a dislike."""
    if not len(examples.query_rows):
        raise ValueError(
            f"none of the {len(train)} interactions of train is an example: data.dislike_at_most is {dislike_at_most}, "
            "and ratings up to it are dislikes; lower it"
        )


def prepare_on(config: config_lib.Config, dataset: Dataset, interactions: Interactions) -> Recipe:
    """Returns the recipe of a training on some of the data set's interactions; see `prepare`.

    Args:
      config: the experiment.
      dataset: all parts, whose ids have a row of their own if `data.vocabulary` is "all", and both tables.
      interactions: what is trained on.

    Raises:
      ValueError: the config does not fit the data.
    """
    known = dataset.parts.all() if config.data.vocabulary == "all" else interactions
    return prepare(config, interactions, dataset.corpus, known, dataset.queries)
