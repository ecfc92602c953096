"""Measures the cost of checkpoints in a training."""

from __future__ import annotations

import pathlib
import tempfile
import time
from unittest import mock

import numpy as np

from retrieval.config.schema import Config, Train
from retrieval.data.dataset import Dataset
from retrieval.data.interactions import Interactions, Table
from retrieval.data.splits import split
from retrieval.pipeline.phase import Phase
from retrieval.pipeline.trained import SEARCH
from retrieval.training.checkpoint import Checkpoints

from .measure import Measurement, share


def overhead(
    num_queries: int = 943,
    num_candidates: int = 1682,
    num_events: int = 100_000,
    batch_size: int = 2048,
    epochs: int = 25,
    rounds: int = 4,
) -> list[Measurement]:
    """Measures epochs with checkpoints, the wait for the last write included, beside epochs without.

    Both are the search of the best epoch, in turn. The value is the sum over the epochs of the least time of each over
    `rounds`; the first epoch is left out, since it compiles.
    """
    dataset = _events(num_queries, num_candidates, num_events)
    config = Config(train=Train(batch_size=batch_size, epochs=epochs, patience=0, refit=False))
    saved, unsaved = [], []
    for _ in range(rounds):
        saved.append(_seconds(config, dataset))
        with mock.patch.object(Checkpoints, "save"):
            unsaved.append(_seconds(config, dataset))
    value, reference = (np.min(times, axis=0).sum().item() for times in (saved, unsaved))
    return [share("resume/overhead", value, reference, "s", "the same training without checkpoints", 1.05)]


def _seconds(config: Config, dataset: Dataset) -> list[float]:
    """Returns the seconds of each epoch from the second on, and of the end of training."""
    times = []
    with tempfile.TemporaryDirectory() as folder:
        phase = Phase(SEARCH, config, dataset)
        phase.run(pathlib.Path(folder), config.train.epochs, lambda history: times.append(time.perf_counter()))
        times.append(time.perf_counter())
    return np.diff(times)[1:].tolist()


def _events(num_queries: int, num_candidates: int, num_events: int) -> Dataset:
    """Returns random interactions, split 64 : 16 : 20; the popularity of rank r is proportional to 1 / sqrt(r)."""
    rng = np.random.default_rng(0)

    def ids(number):
        weights = 1 / np.sqrt(1 + np.arange(number))
        return rng.choice(number, num_events, p=weights / weights.sum())

    events = Interactions(ids(num_queries), ids(num_candidates))
    parts = split(events, "random", test_fraction=0.2, validation_fraction=0.2, seed=0)
    return Dataset(parts, Table(np.arange(num_candidates)), None, 0)
