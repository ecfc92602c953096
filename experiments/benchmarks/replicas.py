"""Several trainings as one program, beside one after another."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterable

import numpy as np

from experiments.benchmarks.measure import Measurement, times_better
from retrieval import fit, fit_many
from retrieval.config.schema import Config, Data
from retrieval.data.dataset import load
from retrieval.pipeline.recipe import Recipe, prepare
from retrieval.training.optimizers.by_name import create


def together(
    recipes: list[Recipe] | None = None,
    number: int = 5,
    batch_sizes: tuple[int, ...] = (128, 2048),
    epochs: int = 6,
    rounds: int = 3,
) -> list[Measurement]:
    """Measures replicas of different seeds, trained together, against one after another: all of it, and an epoch.

    Each figure is the least over `rounds`. From the second on, programs come from the cache of experiments for both:
    what one compilation instead of many saves, where nothing is kept on disk, is no part of the figures.
    """
    recipes = _movielens(number) if recipes is None else recipes
    models, first = [recipe.model for recipe in recipes], recipes[0]
    adagrad, rates = functools.partial(create, "adagrad"), [0.1] * len(recipes)
    figures = []
    for batch_size in batch_sizes:
        settings = {"batch_size": batch_size, "epochs": epochs, "seed": 0}
        ours, theirs = [], []
        for _ in range(rounds):
            ours.append(_times(fit_many(models, first.examples, first.loss, adagrad, learning_rates=rates, **settings)))
            alone = [_times(fit(model, first.examples, first.loss, adagrad(0.1), **settings)) for model in models]
            theirs.append(np.sum(alone, axis=0))
        name, against = f"replicas/batch_{batch_size}", f"{len(recipes)} trainings one after another"
        for suffix, value, reference in zip(("", "/epoch"), np.min(ours, axis=0), np.min(theirs, axis=0), strict=True):
            figures.append(times_better(name + suffix, float(value), float(reference), "seconds", against, 0.8))
    return figures


def _times(epochs: Iterable) -> tuple[float, float]:
    """Returns the seconds of all epochs, and those of the fastest after the first."""
    ends = [time.perf_counter()]
    for _ in epochs:
        ends.append(time.perf_counter())
    return ends[-1] - ends[0], min(later - earlier for earlier, later in itertools.pairwise(ends[1:]))


def _movielens(number: int) -> list[Recipe]:
    """Returns the recipe of the main job with different seeds."""
    config = Config(data=Data(dataset="movielens-100k"))
    dataset, recipes = load(config.data), []
    for seed in range(number):
        config.train.seed = seed
        recipes.append(prepare(config, dataset.parts.train, dataset.corpus))
    return recipes
