"""From settings to the optimizer of a training, and what each of them does to it."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from retrieval.config.schema import Config, Data, Loss, Optimizer, Regularization, Train
from retrieval.data.dataset import load
from retrieval.data.interactions import Interactions
from retrieval.models.binding import flatten_params
from retrieval.pipeline import search_and_fit
from retrieval.pipeline.recipe import prepare
from retrieval.training.epochs import fit
from retrieval.training.optimizers.by_name import TouchedRows
from retrieval.training.optimizers.parameter_average import AveragedState
from retrieval.training.step import create_state

DATASET = load(Data(dataset="synthetic"))
TRAIN = Train(batch_size=1024, epochs=6, patience=0)
EVERYTHING = Optimizer(schedule="cosine", warmup=0.1, weight_decay=0.01)


def config_of(optimizer=None, loss=None, regularization=None, **train):
    return Config(
        data=Data(dataset="synthetic"),
        optimizer=optimizer or Optimizer(),
        loss=loss or Loss(),
        regularization=regularization or Regularization(),
        train=dataclasses.replace(TRAIN, **train),
    )


def recipe_of(config):
    return prepare(config, DATASET.parts.train, DATASET.corpus)


def epochs_of(config, number):
    recipe = recipe_of(config)
    settings = {"batch_size": recipe.batch_size, "epochs": number, "seed": 0}
    return list(itertools.islice(fit(recipe.model, recipe.examples, recipe.loss, recipe.optimizer, **settings), number))


def movement(config):
    """Returns the norm of what each epoch adds to the parameters."""
    recipe = recipe_of(config)
    reached = [create_state(recipe.model, recipe.optimizer).params, *(s.params for s, _ in epochs_of(config, 6))]
    distances = [jax.tree.map(lambda a, b: jnp.sum((a - b) ** 2), *pair) for pair in itertools.pairwise(reached)]
    return [float(sum(jax.tree.leaves(distance))) ** 0.5 for distance in distances]


def squared_norms(config):
    state, _ = epochs_of(config, 6)[-1]
    (table,) = (leaf for path, leaf in flatten_params(state.params).items() if path.startswith("candidate_tower"))
    return np.sum(np.asarray(table) ** 2, axis=1)


def test_by_default_the_optimizer_is_its_rule_alone():
    recipe = recipe_of(config_of())
    state = recipe.optimizer.init({"bias": jnp.ones(2)})
    assert isinstance(recipe.optimizer, TouchedRows) and len(jax.tree.leaves(state)) == 1  # the sum of squares


def test_all_of_it_stays_with_touched_rows_and_trains():
    config = config_of(EVERYTHING, regularization=Regularization(table_l2={"": 0.05}), average=0.9)
    assert isinstance(recipe_of(config).optimizer, TouchedRows)
    (_, first), *_, (state, last) = epochs_of(config, 6)
    assert isinstance(state.opt_state, AveragedState) and last["loss"] < first["loss"]


@pytest.mark.slow
def test_a_schedule_slows_the_last_epochs_and_a_warm_up_the_first():
    sgd = Optimizer(name="sgd", learning_rate=0.01)
    constant = movement(config_of(sgd))
    falling = movement(config_of(dataclasses.replace(sgd, schedule="linear")))
    rising = movement(config_of(dataclasses.replace(sgd, warmup=0.9)))
    assert falling[-1] < constant[-1] / 3 and falling[0] > constant[0] / 2
    assert rising[0] < constant[0] / 3


def test_a_penalty_on_tables_shrinks_frequent_rows():
    counts = np.asarray(recipe_of(config_of()).encoding.counts(recipe_of(config_of()).examples))
    frequent = counts > np.quantile(counts[1:], 0.8)
    shrunk, without = (
        squared_norms(config_of(regularization=Regularization(embedding_l2=0.0, table_l2=penalties)))
        for penalties in ({"candidate_tower": 2.0}, {})
    )
    assert shrunk[frequent].sum() < 0.5 * without[frequent].sum()


def stepped(regularization, reduction, weight=0.0):
    """Returns the parameters after one step of plain SGD on all of train."""
    loss = Loss(reduction=reduction, rating_weight=weight)
    rate = 0.1 if reduction == "sum" else 0.1 * len(DATASET.parts.train)
    config = config_of(Optimizer(name="sgd", learning_rate=rate), loss, regularization, batch_size=10**6)
    config.model.initial_scale = 0.5
    (state, _), *_ = epochs_of(config, 1)
    return flatten_params(state.params)


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_in_one_batch_the_penalty_of_a_row_is_that_of_the_examples_with_it(reduction):
    of_tables = stepped(Regularization(embedding_l2=0.0, table_l2={"": 0.05}), reduction)
    of_examples = stepped(Regularization(embedding_l2=0.05), reduction)
    without = stepped(Regularization(embedding_l2=0.0), reduction)
    for path, expected in of_examples.items():
        np.testing.assert_allclose(of_tables[path], expected, rtol=1e-4, atol=1e-5)
        assert not np.allclose(without[path], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("weight", [0.0, 2.0])
@pytest.mark.parametrize("batch_size", [7, 83, 8192])
def test_over_an_epoch_the_penalty_has_the_share_of_the_loss_that_it_has_with_sums(batch_size, weight):
    number = 83  # fewer than a batch, or a last batch of its own size
    events = DATASET.parts.train
    ratings = np.random.default_rng(0).integers(1, 6, number).astype(np.float32)
    train = Interactions(events.query_ids[:number], events.candidate_ids[:number], ratings)
    found = []
    for reduction in ("sum", "mean"):
        loss = Loss(reduction=reduction, rating_weight=weight)
        config = config_of(None, loss, Regularization(table_l2={"": 0.1}), batch_size=batch_size)
        recipe = prepare(config, train, DATASET.corpus)
        rates = create_state(recipe.model, recipe.optimizer).opt_state[0].rates
        found.append({path: leaf for path, leaf in flatten_params(rates).items() if np.any(leaf)})
    # an example of weight w has the factor w in a sum, and w / (weights of its batch) in a mean: steps / all weights
    factor = -(-number // batch_size) / recipe.examples.weights.sum()
    assert len(found[0]) == 2
    for path, of_sum in found[0].items():
        np.testing.assert_allclose(found[1][path], of_sum * factor, rtol=1e-5)


def test_a_misspelt_table_and_schedule_are_refused():
    with pytest.raises(ValueError, match="begins with 'candidate_towers'; there are query_tower/"):
        recipe_of(config_of(regularization=Regularization(table_l2={"candidate_towers": 0.1})))
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        recipe_of(config_of(Optimizer(schedule="cosin")))


def test_an_epoch_of_the_final_phase_has_the_learning_rate_of_that_of_the_search():
    config = config_of(Optimizer(name="sgd", learning_rate=1.0, schedule="linear"))
    shares = []
    for part in (DATASET.parts.train, DATASET.parts.train_and_validation()):
        recipe = prepare(config, part, DATASET.corpus)
        steps = -(-len(part) // TRAIN.batch_size)
        state = recipe.optimizer.init({"bias": jnp.ones(())})
        state = jax.tree.map(lambda leaf, steps=steps: jnp.full_like(leaf, 3 * steps), state)
        update, _ = recipe.optimizer.update({"bias": jnp.ones(())}, state, {"bias": jnp.ones(())})
        shares.append(-float(update["bias"]))
    assert shares == pytest.approx([0.5, 0.5])  # after 3 of 6 epochs


def run(config, folder, stop_after=None):
    histories = []

    def on_epoch(history):
        histories.append([dict(record) for record in history])
        if stop_after == (history[-1]["phase"], history[-1]["epoch"]):
            raise KeyboardInterrupt

    return search_and_fit.train(config, DATASET, folder, on_epoch), histories


@pytest.mark.slow
@pytest.mark.parametrize("at", [("search", 2), ("final", 1)])
def test_an_interrupted_training_with_all_of_it_resumes_to_the_same_bits(tmp_path, at):
    config = config_of(EVERYTHING, average=0.9, epochs=4)
    whole, _ = run(config, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(config, tmp_path / "again", stop_after=at)
    resumed, _ = run(config, tmp_path / "again")
    assert resumed.choice == whole.choice
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)


@pytest.mark.slow
def test_the_average_is_what_is_evaluated_and_kept(tmp_path):
    config = config_of(average=0.99, evaluate_every=1, epochs=3, refit=False)
    trained, histories = run(config, tmp_path)
    state, _ = epochs_of(config, trained.choice.epoch)[-1]
    jax.tree.map(np.testing.assert_array_equal, trained.params, state.kept)
    assert not np.array_equal(jax.tree.leaves(trained.params)[0], jax.tree.leaves(state.params)[0])
    _, of_last = run(config_of(evaluate_every=1, epochs=3, refit=False), tmp_path / "last")
    name = "validation/excluding_seen/ndcg_at_10"
    assert histories[-1][2][name] != of_last[-1][2][name]
