"""Regularisation in the optimizer: rows by how often they occur, matrices by a share a step."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st
from training_cases import NUM_CANDIDATES, NUM_QUERIES, make_examples, make_model, one_batch, random_batches

from retrieval.features.encoded import Encoded, Spec
from retrieval.models.feature_inputs import FeatureInput
from retrieval.models.feature_tower import FeatureTower
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import TwoTower
from retrieval.objectives import InBatchSoftmax
from retrieval.training.epochs import fit
from retrieval.training.optimizers import by_name
from retrieval.training.optimizers.by_name import TouchedRows, chained
from retrieval.training.optimizers.row_penalty import decay_matrices, row_penalty, row_rates, table_counts
from retrieval.training.step import create_state, train_step

QUERIES, CANDIDATES = "query_tower/embedding", "candidate_tower/embedding"


def table_of(params, tower="query_tower"):
    return np.asarray(params[tower]["embedding"]["embedding"])


def paid(rates, gradients, rows):
    """Returns what the penalty adds to the gradient of a table in each step; the table stays."""
    params = {"table": {"embedding": jnp.asarray(rows)}}
    optimizer = row_penalty({"table": np.asarray(rates)})
    state, found = optimizer.init(params), []
    for gradient in gradients:
        gradient = {"table": {"embedding": jnp.asarray(gradient)}}
        penalised, state = optimizer.update(gradient, state, params)
        found.append((penalised["table"]["embedding"] - gradient["table"]["embedding"]).tolist())
    return found


def test_a_row_pays_when_it_has_a_gradient_for_all_steps_since_it_last_had_one():
    rows, one, other, both = [[1.0], [8.0]], [[1.0], [0.0]], [[0.0], [1.0]], [[1.0], [-1.0]]
    found = paid([0.5, 0.0625], [one, one, other, both], rows)
    # twice the rate, times the row, times the steps due
    assert found == [[[1.0], [0.0]], [[1.0], [0.0]], [[0.0], [3.0]], [[2.0], [1.0]]]


def test_over_the_steps_a_row_pays_alike_however_often_it_has_gradients():
    steps = [[[float(step % 2)], [1.0]] for step in range(1, 5)] + [[[1.0], [1.0]]]
    totals = np.sum(paid([0.1, 0.1], steps, [[3.0], [3.0]]), axis=0)
    assert totals.ravel().tolist() == pytest.approx([3.0, 3.0])  # 5 steps of 2 * 0.1 * 3


def test_parameters_that_are_no_tables_and_tables_without_a_rate_pay_nothing():
    params = {"mlp": {"kernel": jnp.ones((2, 2))}, "other": {"embedding": jnp.ones((2, 1))}, "bias": jnp.ones(2)}
    optimizer = row_penalty({"table": np.ones(2)})
    gradients = jax.tree.map(lambda leaf: 2 * leaf, params)
    found, _ = optimizer.update(gradients, optimizer.init(params), params)
    jax.tree.map(np.testing.assert_array_equal, found, gradients)


@functools.cache
def steps(name, paths):
    """Returns the compiled step over touched rows and that over all, both regularised, and their start."""
    rates = {QUERIES: np.linspace(0, 0.2, NUM_QUERIES), CANDIDATES: np.linspace(0.1, 0, NUM_CANDIDATES)}
    before = [optax.clip_by_global_norm(0.5), row_penalty({path: rates[path] for path in paths})]
    after = [decay_matrices(0.01), optax.scale_by_schedule(lambda step: 1 / (1 + step))]
    optimizer = chained(by_name.create(name, 0.1), before, after)
    assert isinstance(optimizer, TouchedRows)
    model = make_model(hidden=(4,))
    return *(
        jax.jit(functools.partial(train_step, loss=InBatchSoftmax(), model=model, optimizer=rule))
        for rule in (optimizer, optax.GradientTransformation(*optimizer))
    ), create_state(model, optimizer)


@pytest.mark.parametrize("paths", [(QUERIES, CANDIDATES), (CANDIDATES,)], ids=["both", "one table"])
@pytest.mark.parametrize("name", ["adagrad", "sgd", "rowwise_adagrad"])
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_touched_rows_end_as_in_the_dense_update_with_all_regularisation(name, paths, data):
    touched, dense, start = steps(name, paths)
    states = [start, start]
    for batch in random_batches(data, 3):
        states = [step(state, batch)[0] for step, state in zip((touched, dense), states, strict=True)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *states)


def test_rows_that_do_not_occur_keep_their_bits():
    touched, _, start = steps("adagrad", (QUERIES, CANDIDATES))
    state, _ = touched(start, one_batch([1, 3], [2, 6]))
    for tower, rows in (("query_tower", [0, 2, 4, 5]), ("candidate_tower", [0, 1, 3, 4, 5])):
        assert np.array_equal(table_of(start.params, tower)[rows], table_of(state.params, tower)[rows])


def shrunk_over_an_epoch(examples, rule, loss):
    """Returns how far each row of both tables moves in an epoch of one example a step, beyond the softmax."""
    moved = []
    for optimizer, objective in ((rule, loss), (by_name.create("sgd", 1e-5), InBatchSoftmax())):
        *_, (state, _) = fit(make_model(), examples, objective, optimizer, batch_size=1, epochs=1, seed=0)
        moved.append([table_of(state.params, tower) for tower in ("query_tower", "candidate_tower")])
    return [actual - plain for actual, plain in zip(*moved, strict=True)]


def test_with_power_1_rows_shrink_over_an_epoch_as_by_the_penalty_of_the_loss():
    # Query q has q examples. With a gradient in each step, all that is due is paid at the end; `constant` gives it.
    rows = np.repeat(np.arange(1, NUM_QUERIES), np.arange(1, NUM_QUERIES))
    examples = make_examples(rows, np.ones_like(rows))
    model, start = make_model(), table_of(create_state(make_model(), optax.sgd(0.1)).params)
    counts = np.bincount(rows).astype(np.float64)
    of_tables = table_counts(model, counts, np.bincount(np.ones_like(rows)).astype(np.float64))
    rates = row_rates(of_tables, {"": 0.3}, power=1.0, steps_per_epoch=len(rows))
    constant = {"query_tower": {"embedding": {"embedding": jnp.full((NUM_QUERIES, 3), 1e-9)}}}
    params = {"query_tower": {"embedding": {"embedding": jnp.asarray(start)}}}
    optimizer = row_penalty({QUERIES: rates[QUERIES]})
    state, due = optimizer.init(params), 0.0
    for _ in rows:
        penalised, state = optimizer.update(constant, state, params)
        due = due + np.asarray(penalised["query_tower"]["embedding"]["embedding"])
    of_loss = shrunk_over_an_epoch(examples, by_name.create("sgd", 1e-5), InBatchSoftmax(embedding_l2=0.3))[0]
    np.testing.assert_allclose(-1e-5 * due, of_loss, rtol=0.02, atol=2e-7)


def test_rates_are_strength_times_a_power_of_the_count_over_the_steps():
    counts = {QUERIES: np.array([5.0, 4.0, 0.0, 9.0])}
    for power, expected in ((1.0, [0, 4, 0, 9]), (0.5, [0, 2, 0, 3]), (0.0, [0, 1, 0, 1])):
        rates = row_rates(counts, {"": 0.5}, power=power, steps_per_epoch=10)
        assert rates[QUERIES].tolist() == pytest.approx([0.05 * of_row for of_row in expected])


def test_a_table_takes_the_strength_of_the_longest_beginning_that_fits():
    counts = {QUERIES: np.array([0.0, 1.0]), CANDIDATES: np.array([0.0, 1.0])}
    rates = row_rates(counts, {"": 1.0, "candidate_tower": 3.0}, power=1.0, steps_per_epoch=1)
    assert [rates[path][1] for path in (QUERIES, CANDIDATES)] == [1, 3]
    assert list(row_rates(counts, {"query": 1.0}, power=1.0, steps_per_epoch=1)) == [QUERIES]


def test_a_strength_that_fits_no_table_is_refused_with_those_there_are():
    with pytest.raises(
        ValueError, match="no embedding table has a path that begins with 'candidates'; there are query_tower/"
    ):
        row_rates({QUERIES: np.ones(3)}, {"candidates": 1.0}, power=1.0, steps_per_epoch=1)
    with pytest.raises(ValueError, match="there are none"):
        row_rates({}, {"": 1.0}, power=1.0, steps_per_epoch=1)


def test_rows_of_id_tables_count_as_often_as_their_ids(monkeypatch):
    monkeypatch.setattr("retrieval.training.optimizers.row_penalty.ENTITIES_AT_A_TIME", 4)
    queries, candidates = np.array([7.0, 1, 2, 0, 3, 4]), np.array([9.0, 0, 0, 1, 2, 3, 4])
    found = table_counts(make_model(), queries, candidates)
    assert found[QUERIES].tolist() == [0, 1, 2, 0, 3, 4] and found[CANDIDATES].tolist() == [0, 0, 0, 1, 2, 3, 4]


def test_rows_that_several_entities_look_up_count_as_often_as_these_together():
    class Genres(IdTower):  # candidate c has genre 1 or, if it is odd, 2, twice
        def rows_read(self, rows):
            genres = jnp.where(rows % 2 == 1, 2, 1)
            return {"embedding": jnp.stack([genres, jnp.zeros_like(genres), genres], axis=1)}

    rngs = nnx.Rngs(0)
    model = TwoTower(IdTower(3, 2, initial_scale=1.0, rngs=rngs), Genres(3, 2, initial_scale=1.0, rngs=rngs))
    found = table_counts(model, np.array([0.0, 1.0, 1.0]), np.array([0.0, 10.0, 20.0, 300.0]))
    assert found[CANDIDATES].tolist() == [0, 20, 310]


def counted_one_by_one(rows, counts, num_rows):
    """Returns how often the rows of a table occur, entity by entity."""
    times = np.zeros(num_rows)
    for of_entity, count in zip(rows.tolist(), counts, strict=True):
        for row in set(of_entity) - {0}:
            times[row] += count
    return times.tolist()


@settings(deadline=None, max_examples=20)
@given(
    rows=st.lists(st.lists(st.integers(0, 3), min_size=2, max_size=2), min_size=1, max_size=6),
    counts=st.lists(st.integers(0, 5), min_size=6, max_size=6),
)
def test_every_table_counts_however_small_and_what_an_entity_reads_twice_once(rows, counts):
    rows, counts = np.array(rows, np.int32), np.array(counts[: len(rows)], np.float64)
    encoded = Encoded(rows, np.ones(rows.shape, np.float32), None)
    num_known = min(4, len(rows))
    features = {
        "id": FeatureInput(Spec(num_known, 1, "mean")),
        "genres": FeatureInput(Spec(4, 2, "sum"), encoded=encoded),
    }
    options = {"num_entities": len(rows), "dimension": 2, "initial_scale": 1.0, "rngs": nnx.Rngs(0)}
    model = TwoTower(FeatureTower(features, **options), IdTower(3, 2, initial_scale=1.0, rngs=nnx.Rngs(0)))
    found = table_counts(model, counts, np.zeros(3))
    assert found["query_tower/features/genres/table"].tolist() == counted_one_by_one(rows, counts, 4)
    ids = np.where(np.arange(len(rows)) < 4, np.arange(len(rows)), 0)[:, None]
    assert found["query_tower/features/id/table"].tolist() == counted_one_by_one(ids, counts, num_known)
    assert found[CANDIDATES].tolist() == [0, 0, 0]


def test_a_model_that_does_not_tell_has_no_counts():
    shared = IdTower(5, 3, initial_scale=1.0, rngs=nnx.Rngs(0))
    assert table_counts(TwoTower(shared, shared), np.ones(5), np.ones(5)) == {}
    assert table_counts(nnx.Linear(2, 2, rngs=nnx.Rngs(0)), np.ones(5), np.ones(5)) == {}


def test_matrices_lose_their_share_and_tables_and_vectors_nothing():
    params = {
        "mlp": {"kernel": jnp.full((2, 2), 4.0), "bias": jnp.full(2, 4.0)},
        "tower": {"embedding": jnp.full((2, 2), 4.0)},
        "log_temperature": jnp.full((), 4.0),
    }
    optimizer = chained(by_name.create("adagrad", 0.1), after=[decay_matrices(0.1 * 0.5)])
    state = optimizer.init(params)
    updates, _ = optimizer.update(jax.tree.map(jnp.zeros_like, params), state, params)
    found = optax.apply_updates(params, updates)
    assert found["mlp"]["kernel"].tolist() == [[pytest.approx(3.8)] * 2] * 2
    assert [jnp.unique(leaf).tolist() for leaf in jax.tree.leaves((found["mlp"]["bias"], found["tower"]))] == [[4]] * 2
    assert found["log_temperature"] == 4


def test_decay_follows_the_schedule_and_not_the_size_of_gradients():
    params = {"kernel": jnp.ones((1, 1))}
    halved = optax.scale_by_schedule(lambda step: 0.5)
    moved = []
    for gradient in (0.0, 1e-3):
        optimizer = chained(by_name.create("sgd", 1.0), after=[decay_matrices(0.2), halved])
        updates, _ = optimizer.update({"kernel": jnp.full((1, 1), gradient)}, optimizer.init(params), params)
        moved.append(float(updates["kernel"][0, 0]))
    assert moved == pytest.approx([-0.1, -0.1 - 0.5e-3])


def test_a_rule_with_nothing_beside_it_is_itself():
    rule = by_name.create("adagrad", 0.1)
    assert chained(rule) is rule
    assert not isinstance(chained(optax.rmsprop(0.1), [optax.clip_by_global_norm(1.0)]), TouchedRows)
