"""One phase of a training: a fit that resumes from its checkpoints, validated after its epochs."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import logging
import pathlib
import re
import time
from collections.abc import Callable, Iterator
from typing import Any

from retrieval.common.choices import did_you_mean
from retrieval.common.environment import peak_rss
from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.evaluation.heads import Labelled, with_roots
from retrieval.evaluation.measure import evaluate
from retrieval.pipeline.recipe import prepare_on
from retrieval.pipeline.trained import SEARCH
from retrieval.sharding.devices import peak_device_memory
from retrieval.training.checkpoint import Checkpoint, Checkpoints
from retrieval.training.early_stopping import best_epoch, should_stop
from retrieval.training.epochs import fit
from retrieval.training.step import TrainState, create_state

LOG = logging.getLogger(__name__)
DIGEST_OF_COLUMNS = "columns:"  # begins a fingerprint that covers every column of the data
DIGEST_OF_IDS = re.compile("[0-9a-f]{64}")  # a fingerprint of an earlier version: attributes are not in it
VALIDATION = "validation/"  # prefix of the metrics on the validation part
Record = dict[str, Any]  # what is logged of an epoch, by name
OnEpoch = Callable[[list[Record]], None]  # receives the phase's records so far; only the last is new


class Phase:
    """One fit: of the train part with metrics on the validation part, or of both parts without.

    Attributes:
      name: "search" or "final".
      interactions: what the phase trains on.
      recipe: what is made of the config and these interactions.
    """

    def __init__(self, name: str, config: Config, dataset: Dataset):
        parts = dataset.parts
        self.name = name
        self.interactions = parts.train if name == SEARCH else parts.train_and_validation()
        self.recipe = prepare_on(config, dataset, self.interactions)
        self._config = config
        encoding, is_search = self.recipe.encoding, name == SEARCH
        self._targets = encoding.targets(parts.validation, parts.train) if is_search else None
        self._labelled = Labelled.of(config.tasks, encoding, parts.validation) if is_search else None
        self._fingerprint = _fingerprint(config, dataset)

    def run(self, folder: pathlib.Path, epochs: int, on_epoch: OnEpoch) -> tuple[list[Record], TrainState]:
        """Trains from the last checkpoint on, for `epochs` epochs in all or until early stopping.

        Returns:
          A record of each epoch, from 0 (untrained) on, and the last state.
        """
        with self._checkpoints(folder) as checkpoints:
            restored = checkpoints.last(self._initial_state(), epochs)
            return self._train(checkpoints, restored, epochs, on_epoch)

    def find(self, folder: pathlib.Path, epoch: int) -> TrainState | None:
        """Loads the state after `epoch` epochs; None if its checkpoint is lost: `run` trains to it again."""
        with self._checkpoints(folder) as checkpoints:
            restored = checkpoints.last(self._initial_state(), epoch)
        if restored is not None and restored.epoch == epoch:
            return restored.state
        found = restored.epoch if restored else 0
        LOG.warning("%s lacks epoch %d: training goes on to it from epoch %d", folder, epoch, found)
        return None

    def _checkpoints(self, folder: pathlib.Path) -> Checkpoints:
        # earlier versions did not multiply the prior by the temperature: their parameters belong to other scores
        has_other_prior = self._config.model.popularity_prior and self._config.loss.temperature != 1.0
        return Checkpoints(folder / self.name, self._fingerprint, None if has_other_prior else DIGEST_OF_IDS)

    def _initial_state(self) -> TrainState:
        return create_state(self.recipe.model, self.recipe.optimizer)

    def _train(
        self, checkpoints: Checkpoints, restored: Checkpoint | None, epochs: int, on_epoch: OnEpoch
    ) -> tuple[list[Record], TrainState]:
        state, history = self._initial_state(), []
        if restored:
            state, history = restored.state, restored.history
            on_epoch(history)
        for record, reached in self._epochs(state, history, epochs):
            state = reached
            history.append(record)
            if self._is_evaluated(record["epoch"], epochs):
                record |= self._validate(state)
                checkpoints.save(record["epoch"], state, history, self._score(record))
            on_epoch(history)
            if self._is_over(history):
                break
        return history, state

    def _epochs(self, state: TrainState, history: list[Record], epochs: int) -> Iterator[tuple[Record, TrainState]]:
        """Yields a record and the state of each epoch that is missing in the history."""
        if self._is_over(history) or (history and history[-1]["epoch"] == epochs):
            return
        recipe = self.recipe
        states = fit(
            recipe.model,
            recipe.examples,
            recipe.loss,
            recipe.optimizer,
            batch_size=recipe.batch_size,
            epochs=epochs,
            seed=self._config.train.seed,
            state=state,
            placement=self._config.data.placement,
            negatives=recipe.negatives,
        )
        if not history:
            yield {"phase": self.name, "epoch": 0, "step": 0}, state
        step, started = int(state.step), time.perf_counter()
        for state, means in states:
            seconds, steps = time.perf_counter() - started, int(state.step) - step
            step += steps
            logged = {
                **means,
                "seconds": seconds,
                "step_seconds": seconds / steps,
                "examples_per_second": recipe.num_examples / seconds,
                **peak_rss(),
                **peak_device_memory(),
            }
            yield {"phase": self.name, "epoch": len(history), "step": step, **logged}, state
            started = time.perf_counter()

    def _is_evaluated(self, epoch: int, epochs: int) -> bool:
        return epoch == epochs or epoch % max(self._config.train.evaluate_every, 1) == 0

    def _validate(self, state: TrainState) -> Record:
        """Returns the metrics on the validation part; empty in the final phase, which has trained on it."""
        if self._targets is None:
            return {}
        params = state.kept
        queries = self.recipe.query_embeddings(params, self._targets.query_ids, self.interactions)
        candidates = self.recipe.candidate_embeddings(params)
        metrics = evaluate(queries, candidates, self._targets, ks=self._config.evaluate.ks)
        predictions = self._labelled.by_heads(functools.partial(self.recipe.predict, params), queries, candidates)
        metrics |= with_roots(self._labelled.measure(predictions).means())
        return {f"{VALIDATION}{name}": value for name, value in metrics.items()}

    def _score(self, record: Record) -> float:
        """Returns what ranks the checkpoints of the phase, the highest the best: in the final phase, the last."""
        return _validated(record, self._config.train.metric) if self.name == SEARCH else float(record["epoch"])

    def _is_over(self, history: list[Record]) -> bool:
        """Tells whether early stopping ends the search."""
        if self.name != SEARCH:
            return False
        scores = [_validated(record, self._config.train.metric) for record in _evaluated(history)]
        return bool(scores) and should_stop(scores, self._config.train.patience)


def best_validated_epoch(history: list[Record], metric: str) -> int:
    """Returns the first epoch with the highest metric on the validation part."""
    records = _evaluated(history)
    return records[best_epoch([_validated(record, metric) for record in records])]["epoch"]


def _fingerprint(config: Config, dataset: Dataset) -> str:
    """Returns a digest of all that decides the parameters, which checkpoints of other trainings do not share."""
    sections = [config.model, config.loss, config.regularization, *config.tasks]
    sections += [config.negatives, config.optimizer, config.train]
    facts = [dataset.fingerprint.sha256, config.data.vocabulary, config.data.dislike_at_most]
    facts += map(dataclasses.asdict, sections)
    return DIGEST_OF_COLUMNS + hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _evaluated(history: list[Record]) -> list[Record]:
    return [record for record in history if any(name.startswith(VALIDATION) for name in record)]


def _validated(record: Record, metric: str) -> float:
    """Returns a metric on the validation part."""
    if VALIDATION + metric not in record:
        names = [name.removeprefix(VALIDATION) for name in record if name.startswith(VALIDATION)]
        raise ValueError(f"train.metric must be one of {', '.join(names)}, got {metric!r}{did_you_mean(metric, names)}")
    return record[VALIDATION + metric]
