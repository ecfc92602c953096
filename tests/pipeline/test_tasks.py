"""Retrieval and heads trained together: values by hand, scales, windows, resume and whole runs."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from task_cases import LIKES, RATING, corpus, file_config, rated, small_config

from experiments.evaluate import evaluate
from experiments.report.records import Records
from experiments.shared.run_data import load_data
from experiments.shared.workdir import Workdir
from experiments.train import train
from retrieval.batching.assembly import batches, epoch_order
from retrieval.config.serialization import from_json, to_json
from retrieval.data.interactions import Interactions
from retrieval.evaluation.heads import Labelled
from retrieval.models.binding import bind, flatten_params, init
from retrieval.objectives import HeadLoss, MultiTask
from retrieval.pipeline.recipe import prepare
from retrieval.training.epochs import fit
from retrieval.training.held_out_loss import mean_loss
from retrieval.training.step import create_state, train_step

EVENTS = rated()


def recipe_of(config, events=EVENTS):
    return prepare(config, events, corpus())


def a_batch(recipe, step=0):
    stacked = batches(recipe.examples, np.arange(len(recipe.examples.query_rows)), recipe.batch_size)
    return jax.tree.map(lambda column: jnp.asarray(column[step]), stacked)


def moved(params, seed=0):
    keys = iter(jax.random.split(jax.random.key(seed), 99))
    return jax.tree.map(lambda leaf: leaf + 0.3 * jax.random.normal(next(keys), leaf.shape, leaf.dtype), params)


def last(recipe, epochs=3, state=None):
    *_, (state, means) = fit(
        recipe.model,
        recipe.examples,
        recipe.loss,
        recipe.optimizer,
        batch_size=recipe.batch_size,
        epochs=epochs,
        seed=0,
        negatives=recipe.negatives,
        state=state,
    )
    return state, means


def trivial_retrieval(rows):
    """Returns the in-batch softmax of scores by popularity, corrected by logQ, over three whole batches of 64."""
    counts, losses = np.bincount(rows), []
    for batch in rows[epoch_order(240, seed=0, epoch=0)][:192].reshape(3, 64):
        logits = np.log1p(2 * counts[batch]) - np.log(counts[batch] / 240)
        for i, row in enumerate(batch):
            is_column = (batch != row) | (np.arange(64) == i)  # without accidental hits
            losses.append(np.log(np.sum(np.exp(logits[is_column]))) - logits[i])
    return np.mean(losses)


@pytest.mark.slow
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("step", [0, 3])  # 3 is filled up at the end
def test_the_value_is_that_of_retrieval_and_the_scaled_losses_of_known_labels(reduction, step):
    events = EVENTS.with_unknown_ratings(np.arange(240) % 5 == 0)
    config = small_config(RATING, LIKES)
    config.loss.reduction = reduction
    recipe = recipe_of(config, events)
    model, batch = bind(recipe.model, moved(init(recipe.model))), a_batch(recipe, step)
    value, sums = recipe.loss(model, batch)
    alone, of_retrieval = recipe.loss.retrieval(model, batch)
    start = 64 * step
    stars = events.ratings[start : start + 64]
    known = ~np.isnan(stars)
    q = model.query(jnp.asarray(recipe.examples.query_rows[start : start + 64]))
    c = model.candidate(jnp.asarray(recipe.examples.candidate_rows[start : start + 64]))
    found = {name: np.asarray(of, np.float64)[known] for name, of in model.predict(q, c).items()}
    stars = stars[known]
    likes = stars >= 4
    losses = {
        "rating": (found["rating"] - stars) ** 2,
        "likes": -np.log(np.where(likes, found["likes"], 1 - found["likes"])),
    }
    every = events.ratings[~np.isnan(events.ratings)].astype(np.float64)
    rate = np.mean(every >= 4)
    trivial = {"rating": every.var(), "likes": -rate * np.log(rate) - (1 - rate) * np.log(1 - rate)}
    retrieval, total = trivial_retrieval(recipe.examples.candidate_rows), np.sum if reduction == "sum" else np.mean
    expected = sum(w * retrieval / trivial[n] * total(losses[n]) for n, w in (("rating", 1.0), ("likes", 0.5)))
    assert value - alone == pytest.approx(expected, rel=1e-4)
    assert sums["loss"] == of_retrieval["loss"] and sums["examples"] == of_retrieval["examples"]
    for name in losses:
        assert sums[f"task/{name}"] == pytest.approx(losses[name].sum(), rel=1e-4)
        assert int(sums[f"examples/task/{name}"]) == known.sum()


def test_logged_losses_are_means_over_known_labels_of_whatever_weight():
    events = EVENTS.with_unknown_ratings(np.arange(240) % 3 == 0)
    config = small_config(RATING, epochs=1, batch_size=240)
    config.loss.rating_weight = 0.0
    recipe = recipe_of(config, events)
    _, means = last(recipe, 1)
    known = events.ratings[~np.isnan(events.ratings)]
    assert set(means) == {"loss", "task/rating"}
    assert means["task/rating"] == pytest.approx(known.var(), rel=1e-4)  # before the first step, that of the mean


@pytest.mark.parametrize("tasks", [(dataclasses.replace(RATING, weight=0.0),), (RATING, LIKES)])
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_weight_0_is_retrieval_alone_to_the_bit(tasks, dropout):
    tasks = tuple(dataclasses.replace(task, weight=0.0) for task in tasks)
    configs = small_config(), small_config(*tasks)
    for config in configs:
        config.model.query.mlp.hidden_sizes, config.model.query.mlp.dropout = (8,), dropout
    alone = last(recipe_of(configs[0]))
    state, means = last(recipe_of(configs[1]))
    params = dict(state.params)
    heads = params.pop("heads")
    assert set(heads) == {task.name for task in tasks} and means == alone[1]
    jax.tree.map(np.testing.assert_array_equal, params, alone[0].params)


@pytest.mark.slow
def test_the_units_of_labels_do_not_change_what_towers_learn():
    gradients = []
    for unit in (1.0, 1000.0):
        recipe = recipe_of(small_config(RATING), dataclasses.replace(EVENTS, ratings=unit * EVENTS.ratings))
        params = moved(init(recipe.model))
        batch = a_batch(recipe)
        gradients.append(jax.grad(lambda p, r=recipe, b=batch: r.loss(bind(r.model, p), b)[0])(params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-3), *gradients)


def test_labels_move_the_towers_and_the_heads_learn_them():
    alone, (state, means) = last(recipe_of(small_config()), 30), last(recipe_of(small_config(RATING)), 30)
    assert not np.allclose(
        alone[0].params["query_tower"]["features"]["id"]["table"]["embedding"],
        state.params["query_tower"]["features"]["id"]["table"]["embedding"],
        atol=1e-2,
    )
    assert means["task/rating"] < 0.5 * EVENTS.ratings.var()


def test_a_step_with_unknown_labels_alone_leaves_the_heads():
    recipe = recipe_of(small_config(RATING))
    batch = a_batch(recipe)
    batch = batch._replace(labels={"rating": jnp.full_like(batch.labels["rating"], jnp.nan)})
    state = create_state(recipe.model, recipe.optimizer)
    after, sums = jax.jit(lambda s, b: train_step(s, b, recipe.loss, recipe.model, recipe.optimizer))(state, batch)
    jax.tree.map(np.testing.assert_array_equal, after.params["heads"], state.params["heads"])
    assert (sums["task/rating"], sums["examples/task/rating"]) == (0, 0)


@pytest.mark.parametrize("name", ["full_softmax", "implicit_squared", "cosine_contrastive", "bpr"])
def test_every_objective_goes_with_heads(name):
    config = small_config(RATING)
    config.loss.name = name
    config.model.popularity_prior = name == "full_softmax"
    config.model.temperature = 1.0 if name == "cosine_contrastive" else 0.0
    _, means = last(recipe_of(config), 20)
    assert means["task/rating"] < 0.8 * EVENTS.ratings.var()


def test_a_missing_head_or_label_is_named():
    recipe = recipe_of(small_config(RATING))
    wrong = MultiTask(recipe.loss.retrieval, (HeadLoss("price", 1.0, 1.0),))
    with pytest.raises(ValueError, match=r"head 'price': the model has the heads \['rating'\]"):
        wrong(recipe.model, a_batch(recipe))


@pytest.mark.slow
@pytest.mark.parametrize(("encoder", "visible"), [("mean", "past"), ("mean", "others"), ("gru", "past")])
def test_heads_of_history_towers_learn_the_label_of_each_target(encoder, visible):
    config = small_config(RATING, LIKES)
    config.model.history.encoder, config.model.history.visible, config.model.history.length = encoder, visible, 5
    recipe = recipe_of(config)
    windows = recipe.examples.candidate_rows >= 0
    assert recipe.examples.labels["rating"].shape == windows.shape
    stars = np.sort(recipe.examples.labels["rating"][windows])
    np.testing.assert_array_equal(stars, np.sort(EVENTS.ratings))  # of each interaction once
    batch = a_batch(recipe)
    assert np.sum(batch.real) == pytest.approx(
        np.sum(~np.isnan(np.asarray(batch.labels["rating"])[np.asarray(batch.real)]))
    )
    _, means = last(recipe, 20)
    assert means["task/rating"] < 0.9 * EVENTS.ratings.var()


def test_labels_of_held_out_windows_are_those_of_their_targets():
    config = small_config(RATING)
    config.model.history.encoder, config.model.history.length = "mean", 5
    recipe, held_out = recipe_of(config), rated(1)
    examples = recipe.held_out_examples(held_out, EVENTS)
    np.testing.assert_array_equal(examples.labels["rating"][examples.candidate_rows >= 0], held_out.ratings)
    loss = mean_loss(recipe.model, init(recipe.model), recipe.loss, examples, batch_size=32)
    assert np.isfinite(loss)


@pytest.mark.slow
def test_an_interrupted_training_goes_on_to_the_same_bits():
    config = small_config(RATING, LIKES)
    whole, means = last(recipe_of(config), 4)
    half, _ = last(recipe_of(config), 2)
    resumed, again = last(recipe_of(config), 4, half)
    jax.tree.map(np.testing.assert_array_equal, whole, resumed)
    assert means == again


def test_predictions_of_many_pairs_are_those_of_each(monkeypatch):
    recipe = recipe_of(small_config(RATING, LIKES))
    params = moved(init(recipe.model))
    asked = Labelled.of(recipe.tasks.entries, recipe.encoding, rated(1))
    queries, candidates = recipe.query_embeddings(params, asked.query_ids, EVENTS), recipe.candidate_embeddings(params)
    predict = functools.partial(recipe.predict, params)
    whole = asked.by_heads(predict, queries, candidates)
    monkeypatch.setattr("retrieval.evaluation.heads.PAIRS_A_CALL", 7)
    pieces = asked.by_heads(predict, queries, candidates)
    for name in ("rating", "likes"):
        np.testing.assert_allclose(whole[name], pieces[name], rtol=1e-5)
    model = bind(recipe.model, params)
    one = model.predict(queries[asked.owners[3]][None], candidates[asked.positions[3]][None])
    assert whole["rating"][3] == pytest.approx(float(one["rating"][0]), rel=1e-5)
    assert np.all((whole["likes"] > 0) & (whole["likes"] < 1))


def test_without_ratings_or_with_a_wrong_task_there_is_no_recipe():
    with pytest.raises(ValueError, match="predicts the rating, .*column in data.columns.rating"):
        recipe_of(small_config(RATING), Interactions(EVENTS.query_ids, EVENTS.candidate_ids))
    with pytest.raises(ValueError, match=r"tasks\[1\].name"):
        recipe_of(small_config(RATING, RATING))


def test_tasks_survive_json():
    config = small_config(RATING, LIKES)
    assert from_json(to_json(config)) == config


@pytest.mark.slow
def test_a_run_logs_and_evaluates_its_tasks(tmp_path):
    config, workdir = file_config(tmp_path, RATING, LIKES), Workdir(tmp_path / "run")
    dataset = load_data(config, workdir)
    trained = train(config, dataset, workdir)
    assert "heads/rating/output/kernel" in flatten_params(trained.params)
    evaluate(config, dataset, trained, workdir)
    records = Records.read(workdir)
    last_of_search = records.phase("search")[-1]
    assert {
        "loss",
        "task/rating",
        "task/likes",
        "validation/rating/rmse",
        "validation/likes/auc",
    } <= last_of_search.keys()
    for system, metrics in (
        ("test", ("rating/rmse", "rating/mae", "likes/log_loss", "likes/auc", "excluding_seen/ndcg_at_5")),
        ("mean", ("rating/rmse", "likes/log_loss")),
        ("candidate_mean", ("rating/rmse", "likes/auc")),
        ("biases", ("rating/rmse",)),
    ):
        for metric in metrics:
            low, high = records.intervals[f"{system}/{metric}"]
            assert low <= records.metrics[f"{system}/{metric}"] <= high
    test = dataset.parts.test
    mean = dataset.parts.train_and_validation().ratings.mean(dtype=np.float64)
    assert records.metrics["mean/rating/rmse"] == pytest.approx(np.sqrt(np.mean((test.ratings - mean) ** 2)))
    assert records.systems == ["test", "popularity"]  # of the tables of rankings
