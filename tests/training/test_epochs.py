"""Training steps, epochs, what continues them and what stops them."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from retrieval.batching import assembly, device
from retrieval.batching.assembly import batches
from retrieval.common.lists import Lists
from retrieval.data.encoding import Examples
from retrieval.losses.row_sets import RowSets
from retrieval.models.binding import bind
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import TwoTower
from retrieval.objectives import InBatchSoftmax
from retrieval.training.early_stopping import best_epoch, should_stop
from retrieval.training.epochs import fit
from retrieval.training.step import TrainState, create_state, train_step

OPTIMIZER = optax.adagrad(0.1)


def make_examples(query_rows, candidate_rows, weights=None):
    weights = np.ones(len(query_rows)) if weights is None else weights
    return Examples(
        np.asarray(query_rows, np.int32), np.asarray(candidate_rows, np.int32), np.asarray(weights, np.float32)
    )


def make_model(num_query_rows=7, num_candidate_rows=9, dimension=4, initial_scale=0.1):
    rngs = nnx.Rngs(0)
    return TwoTower(
        IdTower(num_query_rows, dimension, initial_scale=initial_scale, rngs=rngs),
        IdTower(num_candidate_rows, dimension, initial_scale=initial_scale, rngs=rngs),
    )


def tables(params):
    return [np.asarray(params[tower]["embedding"]["embedding"]) for tower in ("query_tower", "candidate_tower")]


def same(actual, desired):
    return all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(desired), strict=True))


RNG = np.random.default_rng(0)
EXAMPLES = make_examples(RNG.integers(1, 6, 50), RNG.integers(1, 8, 50))


def train(examples=EXAMPLES, model=None, loss=None, optimizer=OPTIMIZER, **settings):
    settings = {"batch_size": 16, "epochs": 3, "seed": 0} | settings
    return fit(model or make_model(), examples, loss or InBatchSoftmax(), optimizer, **settings)


# One step on two examples, in one dimension: scores [[ln 3, 0], [0, 0]], softmax [[3/4, 1/4], [1/2, 1/2]].
PARAMS = {
    "query_tower": {"embedding": {"embedding": jnp.array([[0.0], [1.0], [0.0], [5.0]])}},
    "candidate_tower": {"embedding": {"embedding": jnp.array([[0.0], [np.log(3.0)], [0.0], [5.0]], jnp.float32)}},
}


@pytest.fixture(scope="module")
def stepped():
    epoch = batches(make_examples([1, 2], [1, 2]), np.arange(2), 2)
    state = TrainState(jnp.zeros((), jnp.int32), PARAMS, OPTIMIZER.init(PARAMS))
    model, loss = make_model(4, 4, 1), InBatchSoftmax()
    return jax.jit(lambda state, batch: train_step(state, batch, loss, model, OPTIMIZER))(
        state, jax.tree.map(lambda column: column[0], epoch)
    )


def test_a_step_moves_each_row_as_adagrad_does(stepped):
    queries, candidates = tables(stepped[0].params)
    # gradients of the queries: -ln(3)/4, ln(3)/2; of the candidates: -1/4, 1/4; each moves by 0.1 g / sqrt(0.1 + g^2)
    assert queries[1:3, 0].tolist() == pytest.approx([1.0655733, -0.0866649], abs=1e-6)
    assert candidates[1:3, 0].tolist() == pytest.approx([1.0986123 + 0.0620174, -0.0620174], abs=1e-6)


def test_a_step_leaves_rows_outside_of_the_batch_as_they_are(stepped):
    queries, candidates = tables(stepped[0].params)
    assert queries[[0, 3], 0].tolist() == candidates[[0, 3], 0].tolist() == [0, 5]


def test_a_step_is_counted_and_returns_the_loss_before_it(stepped):
    state, sums = stepped
    assert int(state.step) == 1
    assert sums["loss"] == pytest.approx(np.log(4 / 3) + np.log(2))
    assert sums["examples"] == 2


def test_the_next_step_goes_on_with_the_state_of_the_optimizer():
    def loss(model, batch):
        return jnp.sum(model.query(batch.queries.rows)), {"examples": jnp.ones(())}  # a gradient of 1

    model = make_model(initial_scale=0.0)
    results = list(train(make_examples([3], [1]), model, jax.tree_util.Partial(loss), batch_size=1, epochs=2))
    reached = [tables(state.params)[0][3, 0] for state, _ in results]
    assert reached == pytest.approx([-0.1 / 1.1**0.5, -0.1 / 1.1**0.5 - 0.1 / 2.1**0.5])


@pytest.fixture(scope="module")
def results():
    return list(train())


def test_each_epoch_is_yielded_in_turn_with_a_finite_loss(results):
    assert [int(state.step) for state, _ in results] == [4, 8, 12]  # 50 examples are 4 batches
    assert all(np.isfinite(metrics["loss"]) for _, metrics in results)


@pytest.mark.slow
def test_each_epoch_draws_other_batches():
    results = list(train(epochs=3, batch_size=5, optimizer=optax.sgd(0.0)))  # the parameters stay
    assert len({metrics["loss"] for _, metrics in results}) == 3


def test_the_loss_of_an_epoch_is_the_mean_over_its_examples_whatever_the_last_batch_holds():
    distinct = make_examples([1, 2, 3, 4, 5], [1, 2, 3, 4, 5])
    still = make_model(initial_scale=0.0)  # embeddings of 0 have no gradients: ln 2 in batches of two, 0 in one of one
    ((_, metrics),) = train(distinct, still, batch_size=2, epochs=1)
    assert metrics == {"loss": pytest.approx(4 * np.log(2) / 5)}


def test_the_loss_of_an_epoch_is_the_mean_over_the_weights():
    weighted = make_examples([1, 2, 3, 4, 5], [1, 2, 3, 4, 5], weights=[1, 2, 3, 4, 5])
    ((_, metrics),) = train(weighted, make_model(initial_scale=0.0), batch_size=5, epochs=1)
    assert metrics == {"loss": pytest.approx(np.log(5))}


def test_training_ranks_what_each_query_takes_above_all_else():
    query_rows, candidate_rows = np.divmod(np.arange(64), 8)
    taken = query_rows % 2 == candidate_rows % 2  # even queries take even candidates
    examples = make_examples(query_rows[taken] + 1, candidate_rows[taken] + 1)
    results = list(train(examples, make_model(9, 9, 4), batch_size=16, epochs=40))
    queries, candidates = tables(results[-1][0].params)
    scores = (queries[1:] @ candidates[1:].T)[query_rows, candidate_rows].reshape(8, 8)
    taken = taken.reshape(8, 8)
    assert np.all(np.where(taken, scores, np.inf).min(axis=1) > np.where(taken, -np.inf, scores).max(axis=1))
    assert results[-1][1]["loss"] < results[0][1]["loss"]


@pytest.mark.parametrize(
    "loss",
    [
        InBatchSoftmax(embedding_l2=0.1, remove_accidental_hits=True),
        InBatchSoftmax(
            RowSets.from_lists(Lists.from_sequences([[1, 2, 3]] * 7)), log_q=True, remove_accidental_hits=True
        ),
        InBatchSoftmax(num_hard_negatives=3, embedding_l2=0.1),
    ],
    ids=["folded", "folded, corrected", "hard negatives"],
)
def test_the_unknown_row_stays_zero_and_every_number_finite(loss):
    *_, (state, _) = train(loss=loss, epochs=3)
    queries, candidates = tables(state.params)
    assert np.all(queries[0] == 0) and np.all(candidates[0] == 0)
    assert np.all(np.isfinite(queries)) and np.all(np.isfinite(candidates))
    assert np.all(queries[1:6] != tables(create_state(make_model(), OPTIMIZER).params)[0][1:6])


def test_training_leaves_the_model_it_was_given_as_it_is():
    model = make_model()
    before = create_state(model, OPTIMIZER).params
    list(train(model=model))
    assert same(create_state(model, OPTIMIZER).params, before)


# Room without slack, measured on few batches, and blocks of three steps: some batches overflow, blocks are cut there.
# Room, and with it rounding, must depend neither on where a run starts nor on the placement.
LONG_TAILED = np.random.default_rng(4)
UNEVEN = make_examples(LONG_TAILED.zipf(1.5, 90) % 40 + 1, LONG_TAILED.zipf(1.3, 90) % 50 + 1)


@pytest.fixture(scope="module", autouse=True)
def tight():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(assembly, "MIN_SLACK", 0)
        patch.setattr(assembly, "MEASURED_BATCHES", 3)
        patch.setattr(device, "BLOCK_BYTES", 1)
        yield


def loss_and_room(model, batch):
    value, sums = InBatchSoftmax(remove_accidental_hits=True)(model, batch)
    return value, sums | {name: jnp.float32(len(getattr(batch, name).rows)) for name in ("queries", "candidates")}


def train_uneven(state=None, placement="device"):
    loss, model = jax.tree_util.Partial(loss_and_room), make_model(41, 51, 32)
    settings = {"batch_size": 16, "epochs": 3, "seed": 4, "state": state, "placement": placement}
    return list(train(UNEVEN, model, loss, **settings))


@pytest.fixture(scope="module")
def whole():
    return train_uneven()


def test_some_batches_of_the_uneven_examples_overflow(whole):
    rooms = [metrics["candidates"] for _, metrics in whole]
    assert len(set(rooms)) > 1  # the mean over the steps: of one shape it is the same in each epoch


@pytest.mark.parametrize(("done", "placement"), [(1, "device"), (2, "stream"), (1, "auto")])
def test_a_run_that_continues_from_a_yielded_state_gives_the_same_bits_as_the_run_that_went_on(whole, done, placement):
    rest = train_uneven(whole[done - 1][0], placement)
    assert [metrics for _, metrics in rest] == [metrics for _, metrics in whole[done:]]
    assert same(rest[-1][0], whole[-1][0])


@pytest.fixture(scope="module")
def streamed():
    return train_uneven(placement="stream")


def test_a_streamed_run_gives_the_same_bits_as_one_with_its_epochs_on_the_device(whole, streamed):
    assert [metrics for _, metrics in streamed] == [metrics for _, metrics in whole]
    assert all(same(actual, desired) for (actual, _), (desired, _) in zip(streamed, whole, strict=True))


def test_an_unknown_placement_is_refused_before_the_first_epoch():
    with pytest.raises(
        ValueError, match="placement must be one of 'auto', 'device', 'stream', got 'streamed'; did you mean"
    ):
        train(placement="streamed")


def test_a_finished_run_has_no_epochs_left(results):
    assert list(train(state=results[-1][0])) == []


def test_the_same_seed_gives_the_same_bits(results):
    *_, (again, _) = train()
    assert same(again, results[-1][0])


def test_another_seed_gives_other_parameters(results):
    *_, (other, _) = train(seed=1)
    assert not same(other.params, results[-1][0].params)


def test_epochs_of_one_shape_are_compiled_once():
    traced = []

    def loss(model, batch):
        traced.append(batch)
        return InBatchSoftmax()(model, batch)

    # the fullest batch of an epoch has 302 to 309 distinct queries: one more or less must not make another shape
    examples = make_examples(np.arange(3000) % 400 + 1, np.arange(3000) % 401 + 1)
    epochs = train(examples, make_model(401, 402), jax.tree_util.Partial(loss), batch_size=500)
    next(epochs)
    after_the_first = len(traced)
    assert after_the_first > 0
    list(epochs)
    assert len(traced) == after_the_first


@pytest.mark.parametrize("batch_size", [-1, 0, 51])
def test_a_batch_that_is_empty_or_larger_than_the_data_is_refused(batch_size):
    with pytest.raises(ValueError, match=rf"batch_size must be in \[1, 50\].* got {batch_size}"):
        list(train(batch_size=batch_size))


PLACEMENTS = pytest.mark.parametrize("placement", ["device", "stream"])


@PLACEMENTS
def test_a_loss_that_is_no_longer_finite_stops_the_run_and_names_epoch_step_and_batch(placement):
    def loss(model, batch):
        reached = model.query(batch.queries.rows)[0, 0]  # 0, 1, 2 ...: a step of gradient descent adds 1
        return -reached, {"loss": jnp.log(26.5 - reached), "examples": jnp.ones(())}

    always = make_examples(np.ones(50), np.ones(50))
    settings = {"optimizer": optax.sgd(1.0), "batch_size": 5, "epochs": 9, "placement": placement}
    epochs = train(always, make_model(initial_scale=0.0), jax.tree_util.Partial(loss), **settings)
    good = [next(epochs)[0], next(epochs)[0]]
    with pytest.raises(
        FloatingPointError, match=r"not finite in epoch 3, step 28 \(batch 7 of the epoch, from 0\).*nan"
    ):
        next(epochs)
    assert [tables(state.params)[0][1, 0] for state in good] == [10, 20]
    assert list(epochs) == []


@PLACEMENTS
def test_a_weight_that_is_not_finite_is_found_in_its_batch(placement):
    weights = np.ones(50)
    weights[17] = np.inf
    order = np.random.default_rng((0, 0)).permutation(50)
    batch = int(np.flatnonzero(order == 17)[0]) // 5
    with pytest.raises(FloatingPointError, match=rf"in epoch 1, step {batch + 1} \(batch {batch} of"):
        list(train(make_examples(*EXAMPLES[:2], weights), batch_size=5, placement=placement))


@PLACEMENTS
def test_parameters_that_the_last_step_of_an_epoch_spoils_are_never_yielded(placement):
    def loss(model, batch):  # the loss is finite in each step
        reached = model.query(batch.queries.rows)[0, 0]
        return jnp.where(reached > 8.5, jnp.nan, -1.0) * reached, {"loss": reached * 0, "examples": jnp.ones(())}

    always = make_examples(np.ones(50), np.ones(50))
    settings = {"optimizer": optax.sgd(1.0), "batch_size": 5, "placement": placement}
    epochs = train(always, make_model(initial_scale=0.0), jax.tree_util.Partial(loss), **settings)
    with pytest.raises(FloatingPointError, match="a parameter is not finite after epoch 1, step 10 .*in query_tower/"):
        next(epochs)


def threads():
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


@PLACEMENTS
def test_a_run_that_is_left_ends_its_thread(placement):
    epochs = train(placement=placement)
    next(epochs)
    assert threads()
    epochs.close()
    assert not threads()
    list(train(placement=placement))
    assert not threads()


def test_an_error_in_the_preparation_of_batches_is_raised_in_the_caller():
    broken = EXAMPLES._replace(weights=EXAMPLES.weights[:20])
    with pytest.raises(IndexError):
        list(train(broken, placement="stream"))
    assert not threads()


def test_a_trained_state_binds_to_the_model_it_came_from(results):
    params = results[-1][0].params
    assert np.array_equal(bind(make_model(), params).query(jnp.array([2]))[0], tables(params)[0][2])


@pytest.mark.parametrize(
    ("history", "best"),
    [([0.1, 0.3, 0.2], 1), ([0.3, 0.3], 0), ([float("nan"), 0.1], 1), ([-0.2, -0.1], 1)],
)
def test_the_best_epoch_has_the_highest_value_the_first_of_equals_never_nan(history, best):
    assert best_epoch(history) == best


@pytest.mark.parametrize(
    ("history", "patience", "stop"),
    [
        ([], 2, False),
        ([0.3, 0.2], 2, False),
        ([0.3, 0.2, 0.1], 2, True),
        ([0.3, 0.2, 0.3], 2, True),  # an equal value is no better one
        ([0.3, 0.2, 0.4], 2, False),
        ([0.3, float("nan"), float("nan")], 2, True),
        ([0.3, 0.2, 0.1, 0.0], 0, False),
    ],
)
def test_training_stops_when_as_many_values_as_the_patience_raise_none_before_them(history, patience, stop):
    assert should_stop(history, patience) == stop
