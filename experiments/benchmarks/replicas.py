"""Several trainings as one program, beside one after another."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Iterable

from experiments.benchmarks.measure import Figure, times_better
from retrieval import fit, fit_many
from retrieval.config import Config, Data
from retrieval.data.dataset import load
from retrieval.optimizers import create
from retrieval.recipe import Recipe, prepare


def together(
    recipes: list[Recipe] | None = None, number: int = 5, batch_sizes: tuple[int, ...] = (128, 2048), epochs: int = 6
) -> list[Figure]:
    """Measures replicas of different seeds, trained together, against one after another: all of it, and an epoch.

    All of it has the compilation, which each training of its own repeats; of the epochs the fastest after the first
    counts. Nothing of it is kept on disk.
    """
    recipes = _movielens(number) if recipes is None else recipes
    figures = []
    for batch_size in batch_sizes:
        name, against = f"replicas/batch_{batch_size}", f"{len(recipes)} trainings one after another"
        settings = {"batch_size": batch_size, "epochs": epochs, "seed": 0}
        adagrad = functools.partial(create, "adagrad")
        first = recipes[0]
        models = [recipe.model for recipe in recipes]
        rates = [0.1] * len(recipes)
        ours = _times(fit_many(models, first.examples, first.loss, adagrad, learning_rates=rates, **settings))
        one_by_one = [_times(fit(model, first.examples, first.loss, adagrad(0.1), **settings)) for model in models]
        whole, an_epoch = (sum(of_one) for of_one in zip(*one_by_one, strict=True))
        figures.append(times_better(name, ours[0], whole, "seconds", f"{against}, compilation included", 1.0))
        figures.append(times_better(f"{name}/epoch", ours[1], an_epoch, "seconds", f"an epoch of {against}", 0.8))
    return figures


def _times(epochs: Iterable) -> tuple[float, float]:
    """Returns the seconds of all epochs, compilation included, and those of the fastest after the first."""
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
