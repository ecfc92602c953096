"""Scores start at popularity at every temperature of the loss, and are served as they were trained."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from retrieval.config.schema import Addition, Config
from retrieval.data.dataset import load
from retrieval.data.interactions import Interactions, Table
from retrieval.index import ExactIndex
from retrieval.models.binding import bind, init
from retrieval.objectives import OBJECTIVES
from retrieval.pipeline.phase import Phase
from retrieval.pipeline.recipe import prepare
from retrieval.pipeline.trained import SEARCH
from retrieval.serving import bundle
from retrieval.training.held_out_loss import mean_loss

NUM_CANDIDATES = 200
TEMPERATURES = (4.0, 1.0, 0.25, 0.1)
WITH_TEMPERATURE = [name for name, objective in OBJECTIVES.items() if "temperature" in objective.options]
EASE = Addition("ease", weight=2.0, arguments={"rank": 8})
RECENT = Addition("recent_popularity", weight=1.5, arguments={"half_life": 1.0, "news": 0.5})


def interactions():
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(2, NUM_CANDIDATES + 2)
    candidates = np.concatenate([np.arange(NUM_CANDIDATES), rng.choice(NUM_CANDIDATES, 1800, p=shares / shares.sum())])
    return Interactions(rng.integers(100, size=2000), candidates, timestamps=10**9 + rng.integers(10**6, size=2000))


TRAIN, CORPUS = interactions(), Table(np.arange(NUM_CANDIDATES))


def recipe_at(temperature, loss="full_softmax", *additions, model=None):
    config = Config()
    config.model.embedding_dimension = 4
    config.model.additions = additions
    config.loss.name, config.loss.temperature = loss, temperature
    config.regularization.embedding_l2 = 0.0
    config.train.batch_size = 500
    for name, value in (model or {}).items():
        setattr(config.model, name, value)
    return prepare(config, TRAIN, CORPUS)


def zeros(recipe):
    return jax.tree.map(jnp.zeros_like, init(recipe.model))


def scores_of(recipe, params):
    ids = np.unique(TRAIN.query_ids)
    return np.asarray(recipe.query_embeddings(params, ids, TRAIN) @ recipe.candidate_embeddings(params).T)


def starting_loss(recipe):
    settings = {"batch_size": recipe.batch_size, "negatives": recipe.negatives}
    return mean_loss(recipe.model, zeros(recipe), recipe.loss, recipe.examples, **settings)


def popularity():
    """Returns the smoothed shares of the candidates in train."""
    counts = np.bincount(TRAIN.candidate_ids, minlength=NUM_CANDIDATES)
    return (counts + 0.5) / (counts + 0.5).sum(), counts / counts.sum()


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_full_softmax_starts_at_the_entropy_of_popularity(temperature):
    smoothed, shares = popularity()
    recipe = recipe_at(temperature)
    assert starting_loss(recipe) == pytest.approx(-np.sum(shares * np.log(smoothed)), rel=1e-5)


@pytest.mark.parametrize("name", WITH_TEMPERATURE)
def test_the_starting_loss_is_the_same_at_every_temperature(name):
    losses = [starting_loss(recipe_at(temperature, name)) for temperature in TEMPERATURES]
    np.testing.assert_allclose(losses, losses[1], rtol=1e-5)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_zero_towers_rank_by_popularity(temperature):
    scores = scores_of(recipe_at(temperature), zeros(recipe_at(temperature)))
    counts = np.bincount(TRAIN.candidate_ids, minlength=NUM_CANDIDATES)
    np.testing.assert_allclose(scores, np.broadcast_to(temperature * np.log1p(2 * counts), scores.shape), rtol=1e-5)


@pytest.mark.parametrize("added", [(RECENT,), (EASE, RECENT)])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_additions_of_log_probabilities_have_the_temperature_and_others_their_weight(temperature, added):
    recipe, without = recipe_at(temperature, "full_softmax", *added), recipe_at(1.0, "full_softmax", RECENT)
    log_probabilities = scores_of(without, zeros(without))
    linear = 0.0
    if EASE in added:
        plain = recipe_at(1.0, "full_softmax", EASE, model={"popularity_prior": False})
        linear = scores_of(plain, zeros(plain))
    expected = temperature * log_probabilities + linear
    np.testing.assert_allclose(scores_of(recipe, zeros(recipe)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("normalized", [0.0, 0.5])
@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_the_loss_of_a_pair_is_that_of_scores_over_the_temperature(temperature, normalized):
    recipe = recipe_at(temperature, model={"temperature": normalized, "candidate_bias": True})
    leaves, tree = jax.tree.flatten(init(recipe.model))
    rng = np.random.default_rng(1)
    params = tree.unflatten([leaf + rng.normal(0, 0.3, leaf.shape).astype(np.float32) for leaf in leaves])
    model, rows = bind(recipe.model, params), recipe.encoding.corpus_rows
    queries = model.query(jnp.asarray(recipe.examples.query_rows))
    logits = np.asarray(queries @ model.candidate(jnp.asarray(rows)).T, np.float64) / temperature
    positives = np.argsort(rows)[recipe.examples.candidate_rows - 1]
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(logits)), positives]
    settings = {"batch_size": recipe.batch_size, "negatives": recipe.negatives}
    assert mean_loss(model, params, recipe.loss, recipe.examples, **settings) == pytest.approx(
        expected.mean(), rel=1e-4
    )


def test_a_bundle_has_the_scores_of_the_model(tmp_path):
    recipe = recipe_at(0.25, "in_batch_softmax", EASE, RECENT)
    params, ids = zeros(recipe), np.unique(TRAIN.query_ids)
    embeddings = np.asarray(recipe.candidate_embeddings(params))
    bundle.save(
        tmp_path / "bundle",
        model=recipe.bound(params),
        queries=recipe.encoding.queries,
        candidates=recipe.encoding.candidates,
        corpus=CORPUS,
        seen=recipe.encoding.seen_by_row(TRAIN),
        index=ExactIndex(embeddings),
        facts={"figures": {}},
    )
    answer = bundle.load(tmp_path / "bundle").recommend(ids[:3], k=5, exclude_seen=False)
    scores = scores_of(recipe, params)[:3]
    np.testing.assert_allclose(answer.scores, -np.sort(-scores, axis=1)[:, :5], rtol=1e-5)


@pytest.mark.parametrize(("temperature", "is_refused"), [(1.0, False), (0.5, True)])
def test_a_checkpoint_of_a_version_without_the_temperature_in_its_prior_is_refused(tmp_path, temperature, is_refused):
    config = Config()
    config.data.dataset, config.loss.temperature = "synthetic", temperature
    phase = Phase(SEARCH, config, load(config.data))
    phase._fingerprint = "0" * 64  # as earlier versions wrote it
    phase.run(tmp_path, 1, lambda history: None)
    expectation = pytest.raises(ValueError, match="use another workdir") if is_refused else contextlib.nullcontext()
    with expectation:
        Phase(SEARCH, config, load(config.data)).find(tmp_path, 1)
