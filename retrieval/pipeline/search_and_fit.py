"""A whole training: a search for the number of epochs, and the fit that is kept.

The *search* phase trains on the train part and evaluates on the validation part; the *final* phase trains anew on
both for the best number of epochs. Without a validation part, or an evaluation on it, there is the final phase
alone. Each phase resumes from its last intact checkpoint.

A schedule of the learning rate spans `train.epochs` epochs of either phase. An epoch of the final phase has more steps
and the same share of the schedule: the final phase ends at the learning rate at which the search found its best.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import pathlib
import time
from collections.abc import Callable, Iterator
from typing import Any

from retrieval.common.choices import did_you_mean
from retrieval.common.environment import peak_rss
from retrieval.config import schema as config_lib
from retrieval.data.dataset import Dataset
from retrieval.data.interactions import Interactions
from retrieval.evaluation.heads import Labelled, with_roots
from retrieval.evaluation.measure import evaluate
from retrieval.models.binding import Params
from retrieval.pipeline.recipe import Recipe, prepare
from retrieval.sharding.devices import peak_device_memory
from retrieval.training.checkpoint import Checkpoint, Checkpoints
from retrieval.training.early_stopping import best_epoch, should_stop
from retrieval.training.epochs import fit
from retrieval.training.step import TrainState, create_state

LOG = logging.getLogger(__name__)
SEARCH, FINAL = "search", "final"
Record = dict[str, Any]
OnEpoch = Callable[[list[Record]], None]  # receives the phase's history, its last record new


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which state a training ended with: the one after `epoch` epochs of `phase`."""

    phase: str
    epoch: int


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained model with the recipe it was trained by.

    Attributes:
      recipe: vocabularies, model and loss of the phase that is kept.
      params: the trained parameters.
      train: the interactions it was trained on.
    """

    recipe: Recipe
    params: Params
    train: Interactions


def train(config: config_lib.Config, dataset: Dataset, folder: pathlib.Path, on_epoch: OnEpoch) -> Choice:
    """Trains as `config` says, with checkpoints in `folder`, and returns which of them to use.

    Called again after an interruption, it goes on from the last intact checkpoint and comes to the same result.

    Raises:
      FloatingPointError: the loss or the parameters are no longer finite; the checkpoints are those of before.
      ValueError: `folder` holds checkpoints of another config or other data, or the config does not fit the data.
    """
    epochs = config.train.epochs
    if dataset.parts.validation is not None and config.train.evaluate_every > 0:
        history = _Phase(SEARCH, config, dataset, epochs).run(folder, on_epoch)
        epochs = _best(history, config.train.metric)
        if not config.train.refit:
            return Choice(SEARCH, epochs)
    _Phase(FINAL, config, dataset, epochs).run(folder, on_epoch)
    return Choice(FINAL, epochs)


def restore(config: config_lib.Config, dataset: Dataset, folder: pathlib.Path, choice: Choice) -> Trained:
    """Loads what `train` chose; where its checkpoint is lost, trains to it again, to the same bits.

    It goes on from the last intact checkpoint before it, or anew where there is none, and says so in the log.

    Raises:
      ValueError: `folder` holds checkpoints of another config or other data.
    """
    phase = _Phase(choice.phase, config, dataset, choice.epoch)
    with phase.checkpoints(folder) as checkpoints:
        restored = checkpoints.last(phase.initial_state(), choice.epoch)
        epoch = restored.epoch if restored else 0
        if restored is None or epoch < choice.epoch:
            LOG.warning("%s lacks epoch %d: training goes on to it from epoch %d", folder, choice.epoch, epoch)
        _, state = phase.train(checkpoints, restored, on_epoch=lambda history: None)
    return Trained(phase.recipe, state.kept, phase.interactions)


def prepare_on(config: config_lib.Config, dataset: Dataset, interactions: Interactions) -> Recipe:
    """Returns the recipe of a phase that trains on these interactions.

    Raises:
      ValueError: the config does not fit the data.
    """
    known = dataset.parts.all() if config.data.vocabulary == "all" else interactions
    return prepare(config, interactions, dataset.corpus, known, dataset.queries)


class _Phase:
    """One fit: on train with validation figures, or on both without."""

    def __init__(self, name: str, config: config_lib.Config, dataset: Dataset, epochs: int):
        parts = dataset.parts
        self.name, self.config, self.epochs = name, config, epochs
        self.interactions = parts.train if name == SEARCH else parts.train_and_validation()
        self.recipe = prepare_on(config, dataset, self.interactions)
        encoding, is_search = self.recipe.encoding, name == SEARCH
        self.targets = encoding.targets(parts.validation, parts.train) if is_search else None
        self.labelled = Labelled.of(config.tasks, encoding, parts.validation) if is_search else None
        trained_with = [config.model, config.loss, config.regularization, *config.tasks]
        trained_with += [config.negatives, config.optimizer, config.train]
        of_data = [dataset.fingerprint(), config.data.vocabulary, config.data.dislike_at_most]
        facts = [*of_data, *map(dataclasses.asdict, trained_with)]
        self.fingerprint = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def checkpoints(self, folder: pathlib.Path) -> Checkpoints:
        return Checkpoints(folder / self.name, self.fingerprint)

    def initial_state(self) -> TrainState:
        return create_state(self.recipe.model, self.recipe.optimizer)

    def run(self, folder: pathlib.Path, on_epoch: OnEpoch) -> list[Record]:
        """Trains from the last checkpoint to the end; returns a record of each epoch, from 0 (untrained) on."""
        with self.checkpoints(folder) as checkpoints:
            restored = checkpoints.last(self.initial_state(), self.epochs)
            history, _ = self.train(checkpoints, restored, on_epoch)
        return history

    def train(
        self, checkpoints: Checkpoints, restored: Checkpoint | None, on_epoch: OnEpoch
    ) -> tuple[list[Record], TrainState]:
        """Trains from what is restored to the end; returns the records and the last state."""
        state, history = self.initial_state(), []
        if restored:
            state, history = restored.state, restored.history
            on_epoch(history)
        for record, reached in self._epochs(state, history):
            state = reached
            history.append(record)
            if self._is_evaluated(record["epoch"]):
                record |= self._validate(state)
                checkpoints.save(record["epoch"], state, history, self._score(record))
            on_epoch(history)
            if self._is_over(history):
                break
        return history, state

    def _epochs(self, state: TrainState, history: list[Record]) -> Iterator[tuple[Record, TrainState]]:
        if self._is_over(history) or (history and history[-1]["epoch"] == self.epochs):
            return
        recipe, settings = self.recipe, self.config.train
        epochs = fit(
            recipe.model,
            recipe.examples,
            recipe.loss,
            recipe.optimizer,
            batch_size=recipe.batch_size,
            epochs=self.epochs,
            seed=settings.seed,
            state=state,
            placement=self.config.data.placement,
            negatives=recipe.negatives,
        )
        if not history:
            yield {"phase": self.name, "epoch": 0, "step": 0}, state
        step, started = int(state.step), time.perf_counter()
        for state, means in epochs:
            seconds, steps = time.perf_counter() - started, int(state.step) - step
            step += steps
            figures = {
                **means,
                "seconds": seconds,
                "step_seconds": seconds / steps,
                "examples_per_second": recipe.num_examples / seconds,
                **peak_rss(),
                **peak_device_memory(),
            }
            yield {"phase": self.name, "epoch": len(history), "step": step, **figures}, state
            started = time.perf_counter()

    def _is_evaluated(self, epoch: int) -> bool:
        every = self.config.train.evaluate_every
        return epoch == self.epochs or epoch % max(every, 1) == 0

    def _validate(self, state: TrainState) -> Record:
        if self.targets is None:
            return {}
        params = state.kept
        queries = self.recipe.query_embeddings(params, self.targets.query_ids, self.interactions)
        candidates = self.recipe.candidate_embeddings(params)
        figures = evaluate(queries, candidates, self.targets, ks=self.config.evaluate.ks)
        predictions = self.labelled.by_heads(functools.partial(self.recipe.predict, params), queries, candidates)
        figures |= with_roots(self.labelled.measure(predictions).figures())
        return {f"validation/{name}": value for name, value in figures.items()}

    def _score(self, record: Record) -> float:
        return _metric(record, self.config.train.metric) if self.name == SEARCH else float(record["epoch"])

    def _is_over(self, history: list[Record]) -> bool:
        if self.name != SEARCH:
            return False
        scores = [_metric(record, self.config.train.metric) for record in _evaluated(history)]
        return bool(scores) and should_stop(scores, self.config.train.patience)


def _evaluated(history: list[Record]) -> list[Record]:
    return [record for record in history if any(name.startswith("validation/") for name in record)]


def _best(history: list[Record], metric: str) -> int:
    """Returns the epoch with the highest metric on the validation part."""
    records = _evaluated(history)
    return records[best_epoch([_metric(record, metric) for record in records])]["epoch"]


def _metric(record: Record, metric: str) -> float:
    name = f"validation/{metric}"
    if name not in record:
        names = [key.removeprefix("validation/") for key in record if key.startswith("validation/")]
        raise ValueError(f"train.metric must be one of {', '.join(names)}, got {metric!r}{did_you_mean(metric, names)}")
    return record[name]
