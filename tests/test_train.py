"""Training steps, epochs, and what continues them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from retrieval.data.batches import batches, epoch_order
from retrieval.data.encoding import Examples
from retrieval.models.towers import IdTower
from retrieval.models.two_tower import TwoTower, bind, init
from retrieval.objective import InBatchSoftmax
from retrieval.train import best_epoch, create_state, fit, should_stop, train_step

RNG = np.random.default_rng(0)
EXAMPLES = Examples(
    RNG.integers(1, 6, 50).astype(np.int32), RNG.integers(1, 8, 50).astype(np.int32), np.ones(50, np.float32)
)
OPTIMIZER = optax.adagrad(0.1)


def model(seed=0):
    rngs = nnx.Rngs(seed)
    return TwoTower(IdTower(7, 4, initial_scale=0.1, rngs=rngs), IdTower(9, 4, initial_scale=0.1, rngs=rngs))


def train(epochs=3, seed=0, state=None, loss=None, **fields):
    settings = {"batch_size": 16, "epochs": epochs, "seed": seed, "state": state} | fields
    return list(fit(model(), EXAMPLES, loss or InBatchSoftmax(), OPTIMIZER, **settings))


def same(ours, theirs):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


def test_the_first_adagrad_step_moves_by_the_gradient_over_its_norm():
    def loss(model, batch):
        return jnp.sum(model.query(batch.queries.rows)) * 2.0, {"examples": jnp.sum(batch.weights)}

    one = Examples(np.array([3], np.int32), np.array([1], np.int32), np.ones(1, np.float32))
    batch = jax.tree.map(lambda column: jnp.asarray(column[0]), batches(one, np.arange(1), 1))
    before = create_state(model(), OPTIMIZER)
    after, _ = train_step(before, batch, loss, model(), OPTIMIZER)
    moved = (
        before.params["query_tower"]["embedding"]["embedding"] - after.params["query_tower"]["embedding"]["embedding"]
    )
    assert moved[3] == pytest.approx(np.full(4, 0.1 * 2 / np.sqrt(0.1 + 4)), rel=1e-4)
    assert np.all(np.delete(np.asarray(moved), 3, axis=0) == 0)
    assert int(after.step) == 1


def test_the_unknown_row_stays_zero_and_the_loss_falls():
    results = train(epochs=20)
    params = results[-1][0].params
    assert np.all(params["query_tower"]["embedding"]["embedding"][0] == 0)
    assert np.all(params["candidate_tower"]["embedding"]["embedding"][0] == 0)
    assert results[-1][1]["loss"] < results[0][1]["loss"]


def test_a_run_that_continues_from_a_state_ends_with_the_same_bits():
    whole = train(epochs=4)
    resumed = train(epochs=4, state=train(epochs=2)[-1][0])
    assert len(resumed) == 2
    assert same(resumed[-1][0], whole[-1][0])


def test_the_seed_decides_the_result():
    assert same(train()[-1][0], train()[-1][0])
    assert not same(train()[-1][0], train(seed=1)[-1][0])


def test_epochs_of_one_shape_are_compiled_once():
    traces = []

    def loss(model, batch):
        traces.append(batch)
        return InBatchSoftmax()(model, batch)

    train(epochs=5, loss=jax.tree_util.Partial(loss))
    assert len(traces) <= 2  # grad and scan may trace the step twice; five epochs do not add to it


@pytest.mark.parametrize("batch_size", [0, 51])
def test_a_batch_that_is_empty_or_larger_than_the_data_is_refused(batch_size):
    with pytest.raises(ValueError, match=rf"batch_size must be in \[1, 50\].* got {batch_size}"):
        train(batch_size=batch_size)


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_epoch():
    with pytest.raises(FloatingPointError, match="not finite in epoch 1"):
        train(loss=InBatchSoftmax(temperature=float("nan")))


def test_the_best_epoch_is_the_first_of_equals_and_patience_counts_from_it():
    assert best_epoch([0.1, 0.3, 0.3, float("nan")]) == 1
    assert not should_stop([0.3, 0.2], patience=2) and should_stop([0.3, 0.2, 0.3], patience=2)
    assert not should_stop([0.3, 0.2, 0.1], patience=0)


@pytest.mark.parametrize("batch_size", [1, 16, 50])
def test_every_example_occurs_once_in_an_epoch_whatever_the_batch(batch_size):
    stacked = batches(EXAMPLES, epoch_order(50, seed=3, epoch=2), batch_size)
    rows = [
        np.take_along_axis(part.rows, part.places, 1)[stacked.real] for part in (stacked.queries, stacked.candidates)
    ]
    pairs = zip(EXAMPLES.query_rows.tolist(), EXAMPLES.candidate_rows.tolist(), strict=True)
    assert sorted(zip(*(r.tolist() for r in rows), strict=True)) == sorted(pairs)
    assert stacked.weights.sum() == 50


def test_the_order_is_a_function_of_seed_and_epoch():
    assert np.array_equal(epoch_order(50, seed=1, epoch=2), epoch_order(50, seed=1, epoch=2))
    assert not np.array_equal(epoch_order(50, seed=1, epoch=2), epoch_order(50, seed=1, epoch=3))


def test_parameters_of_another_shape_or_name_are_refused_by_name():
    ours = model()
    params = init(ours)
    params["query_tower"]["embedding"]["embedding"] = jnp.zeros((7, 5))
    with pytest.raises(ValueError, match="query_tower/embedding/embedding.*7, 4.*7, 5"):
        bind(ours, params)
    params = init(ours)
    params["query_towr"] = params.pop("query_tower")
    with pytest.raises(ValueError, match="none of that name"):
        bind(ours, params)


def test_towers_near_zero_rank_by_the_prior_and_a_module_of_ones_own_is_a_tower():
    class Genres(nnx.Module):
        def __init__(self):
            self.genres = nnx.Variable(jnp.eye(9)[:, :3])
            self.linear = nnx.Linear(3, 4, rngs=nnx.Rngs(0))

        def __call__(self, rows):
            return self.linear(self.genres[rows])

    prior = np.arange(9, dtype=np.float32)
    two_tower = TwoTower(IdTower(7, 4, initial_scale=1e-6, rngs=nnx.Rngs(0)), Genres(), prior)
    scores = two_tower.query(jnp.array([1])) @ two_tower.candidate(jnp.arange(9)).T
    assert np.allclose(scores[0], prior, atol=1e-4)
    *_, (state, _) = fit(two_tower, EXAMPLES, InBatchSoftmax(), OPTIMIZER, batch_size=16, epochs=2, seed=0)
    assert not np.array_equal(
        state.params["candidate_tower"]["linear"]["kernel"], two_tower.candidate_tower.linear.kernel
    )
