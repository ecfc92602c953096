"""Measures the vmapped ensemble: several trainings as one program, beside one after another."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterable

import numpy as np

from retrieval import fit, fit_many
from retrieval.config.schema import Config, Data
from retrieval.data.dataset import load
from retrieval.pipeline.recipe import Recipe, prepare
from retrieval.training.optimizers.by_name import create

from .measure import Measurement, times_better


def together(
    recipes: list[Recipe] | None = None,
    number: int = 5,
    batch_sizes: tuple[int, ...] = (128, 2048),
    epochs: int = 6,
    rounds: int = 3,
) -> list[Measurement]:
    """Measures replicas of different seeds trained together, beside one after another: all epochs, and one epoch.

    Each time is the least over `rounds`. From the second round on, both read their programs from the compilation cache,
    so that the times leave out what one compilation saves against many.
    """
    recipes = _movielens(number) if recipes is None else recipes
    models, first = [recipe.model for recipe in recipes], recipes[0]
    adagrad, rates = functools.partial(create, "adagrad"), [0.1] * len(recipes)
    measurements = []
    for batch_size in batch_sizes:
        settings = {"batch_size": batch_size, "epochs": epochs, "seed": 0}
        together_times, alone_times = [], []
        for _ in range(rounds):
            together_times.append(
                _times(fit_many(models, first.examples, first.loss, adagrad, learning_rates=rates, **settings))
            )
            alone = [_times(fit(model, first.examples, first.loss, adagrad(0.1), **settings)) for model in models]
            alone_times.append(np.sum(alone, axis=0))
        name, against = f"replicas/batch_{batch_size}", f"{len(recipes)} trainings one after another"
        for suffix, value, reference in zip(
            ("", "/epoch"), np.min(together_times, axis=0), np.min(alone_times, axis=0), strict=True
        ):
            measurements.append(times_better(name + suffix, float(value), float(reference), "seconds", against, 0.8))
    return measurements


def _times(epochs: Iterable) -> tuple[float, float]:
    """Returns the seconds of all epochs, and of the fastest epoch after the first."""
    ends = [time.perf_counter()]
    for _ in epochs:
        ends.append(time.perf_counter())
    return ends[-1] - ends[0], min(later - earlier for earlier, later in itertools.pairwise(ends[1:]))


def _movielens(number: int) -> list[Recipe]:
    """Returns the recipe of the main job for each seed."""
    config = Config(data=Data(dataset="movielens-100k"))
    dataset, recipes = load(config.data), []
    for seed in range(number):
        config.train.seed = seed
        recipes.append(prepare(config, dataset.parts.train, dataset.corpus))
    return recipes
