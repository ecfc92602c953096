"""The shipped configs: they load, say what they measured, and reach it."""

import dataclasses
import importlib
import pathlib

import numpy as np
import pytest

from experiments.seeds import with_seed
from retrieval.config.schema import Config
from retrieval.config.serialization import from_json, to_json
from retrieval.config.space import Choice, check_space, value_of
from retrieval.data.dataset import load
from retrieval.pipeline.evaluate_trained import create_evaluation, evaluate_model, evaluate_popularity
from retrieval.pipeline.recipe import prepare
from retrieval.pipeline.trained import FINAL, ChosenEpoch, Trained
from retrieval.training.epochs import fit

CONFIGS = sorted(path.stem for path in (pathlib.Path(__file__).parents[2] / "configs").glob("*.py"))
WITH_SPACE = [name for name in CONFIGS if hasattr(importlib.import_module(f"configs.{name}"), "get_space")]
GOLDEN = {  # mean and standard deviation over 8 splits and initialisations of the published recipe
    "test/excluding_seen/precision_at_10": (0.0640, 0.0027),
    "test/excluding_seen/recall_at_10": (0.0528, 0.0025),
    "test/factorized_top_k/top_10_categorical_accuracy": (0.0071, 0.0006),
    "test/factorized_top_k/top_50_categorical_accuracy": (0.0759, 0.0017),
    "test/factorized_top_k/top_100_categorical_accuracy": (0.1704, 0.0025),
    "popularity/excluding_seen/precision_at_10": (0.1907, 0.0027),
    "popularity/excluding_seen/recall_at_10": (0.1165, 0.0032),
}


def get_config(name, *variant):
    return importlib.import_module(f"configs.{name}").get_config(*variant)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_gives_its_command_and_survives_json(name):
    module = importlib.import_module(f"configs.{name}")
    assert f"--config=configs/{name}.py" in module.__doc__
    config = get_config(name)
    assert isinstance(config, Config) and from_json(to_json(config)) == config


@pytest.mark.parametrize("name", WITH_SPACE)
def test_what_a_config_says_that_a_sweep_varies_can_vary_and_holds_its_own_values(name):
    config, space = get_config(name), importlib.import_module(f"configs.{name}").get_space()
    check_space(space, config)
    for field, declared in space.items():
        value = value_of(config, field)
        assert value in declared.values if isinstance(declared, Choice) else declared.low <= value <= declared.high


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="variant must be"):
        get_config("movielens_100k", "temporel")


def train_and_evaluate(config, dataset):
    """Trains on all but the test part for the epochs of the config, and evaluates."""
    train = dataset.parts.train_and_validation()
    known = dataset.parts.all() if config.data.vocabulary == "all" else train
    recipe = prepare(config, train, dataset.corpus, known)
    *_, (state, _) = fit(
        recipe.model,
        recipe.examples,
        recipe.loss,
        recipe.optimizer,
        batch_size=config.train.batch_size,
        epochs=config.train.epochs,
        seed=config.train.seed,
    )
    evaluation, choice = create_evaluation(config, dataset), ChosenEpoch(FINAL, config.train.epochs)
    systems = {
        "test": evaluate_model(evaluation, Trained(recipe, state.params, train, choice), train),
        "popularity": evaluate_popularity(evaluation),
    }
    return {f"{system}/{name}": value for system, of in systems.items() for name, value in of.metrics.items()}


@pytest.mark.slow
def test_the_tutorial_reproduces_the_published_figures():
    runs = []
    for seed in (42, 43, 44):
        config = with_seed(get_config("tutorial"), seed)
        config.data.split.seed = seed
        runs.append(train_and_evaluate(config, load(config.data)))
    for name, (mean, deviation) in GOLDEN.items():
        values = [figures[name] for figures in runs]
        assert np.all(np.abs(np.array(values) - mean) <= 3 * deviation), f"{name}: {values}"


@pytest.mark.slow
def test_the_default_recipe_reaches_its_measured_quality():
    config = get_config("movielens_100k")
    config.train = dataclasses.replace(config.train, epochs=20)  # what its search finds
    figures = train_and_evaluate(config, load(config.data))
    assert figures["test/excluding_seen/precision_at_10"] >= 0.360
    assert figures["test/excluding_seen/recall_at_10"] >= 0.230
    assert figures["popularity/excluding_seen/precision_at_10"] == pytest.approx(0.1908, abs=1e-4)


def test_the_temporal_variant_splits_by_time():
    parts = load(get_config("movielens_100k", "temporal").data).parts
    assert parts.train.timestamps.max() <= parts.validation.timestamps.min()
    assert parts.validation.timestamps.max() <= parts.test.timestamps.min()
    assert len(parts.test) == 20_000


@pytest.mark.slow
def test_the_best_temporal_variant_is_above_recent_popularity_for_users_known_and_unknown():
    config = get_config("movielens_100k", "temporal_best")
    dataset = load(config.data)
    train = dataset.parts.train_and_validation()
    recipe = prepare(config, train, dataset.corpus, queries=dataset.queries)
    *_, (state, _) = fit(
        recipe.model,
        recipe.examples,
        recipe.loss,
        recipe.optimizer,
        batch_size=recipe.batch_size,
        epochs=8,  # what its search finds
        seed=0,
    )
    evaluation = create_evaluation(config, dataset)
    result = evaluate_model(evaluation, Trained(recipe, state.kept, train, ChosenEpoch(FINAL, 8)), train)
    figures = {
        part.value: part.metrics for part in result.slices if (part.side, part.column) == ("queries", "vocabulary")
    }
    for group, precision, ndcg in (("known", 0.1596, 0.2113), ("cold", 0.4833, 0.5140)):  # of 30 days
        assert figures[group]["excluding_seen/precision_at_10"] > precision
        assert figures[group]["excluding_seen/ndcg_at_10"] > ndcg + 0.01


@pytest.mark.parametrize(("variant", "number"), [("metadata", 168), ("metadata_20", 336)])
def test_the_metadata_variants_hold_movies_out(variant, number):
    parts = load(get_config("movielens_100k", variant).data).parts
    train, validation, test = (set(p.candidate_ids.tolist()) for p in (parts.train, parts.validation, parts.test))
    assert len(test) == number and not test & (train | validation) and not train & validation


def test_the_columns_of_my_items_are_named_by_the_variant():
    config = get_config("my_items", "id,brand,title=text,price=buckets")
    kinds = [(feature.column, feature.kind) for feature in config.model.candidate.features]
    assert kinds == [("id", "category"), ("brand", "bag"), ("title", "text"), ("price", "buckets")]
    for wrong in ("brand,,tags", "price=bucket", "=text"):
        with pytest.raises(ValueError, match="columns must be as 'brand,price=buckets'"):
            get_config("my_items", wrong)
