"""Updating the touched rows alone is the dense update, row for row, and happens in place."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.batching.assembly import batches
from retrieval.batching.batch import Capacity
from retrieval.data.encoding import Examples
from retrieval.models.binding import flatten_params
from retrieval.models.embedding_table import EmbeddingTable, without_padding
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import TwoTower
from retrieval.objectives import InBatchSoftmax
from retrieval.training.optimizers import by_name
from retrieval.training.optimizers.by_name import TouchedRows
from retrieval.training.optimizers.row_penalty import row_penalty
from retrieval.training.step import create_state, train_step

NUM_QUERIES, NUM_CANDIDATES, BATCH_SIZE = 6, 7, 8
# The same numbers are added in the same order; the compiler may fuse a multiplication and an addition in one form only.
CLOSE = {"rtol": 1e-6, "atol": 1e-7}


def make_model(num_query_rows=NUM_QUERIES, num_candidate_rows=NUM_CANDIDATES, hidden=(), dimension=3):
    rngs = nnx.Rngs(0)
    return TwoTower(
        IdTower(num_query_rows, dimension, hidden, initial_scale=1.0, rngs=rngs),
        IdTower(num_candidate_rows, dimension, initial_scale=1.0, rngs=rngs),
        log_prior=np.linspace(0, 1, num_candidate_rows, dtype=np.float32),
    )


def one_batch(query_rows, candidate_rows):
    examples = Examples(
        np.asarray(query_rows, np.int32), np.asarray(candidate_rows, np.int32), np.ones(len(query_rows), np.float32)
    )
    epoch = batches(examples, np.arange(len(query_rows)), BATCH_SIZE, Capacity(8, 8, 8))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), epoch)


@functools.cache
def steps(name, hidden):
    """Returns the compiled step over touched rows and over all rows, and the state they start from."""
    optimizer = by_name.create(name, 0.1)
    assert isinstance(optimizer, TouchedRows)
    model = make_model(hidden=hidden)
    return *(
        jax.jit(functools.partial(train_step, loss=InBatchSoftmax(embedding_l2=0.1), model=model, optimizer=rule))
        for rule in (optimizer, optax.GradientTransformation(*optimizer))
    ), create_state(model, optimizer)


@pytest.mark.parametrize("hidden", [(), (4,)], ids=["bare", "mlp"])
@pytest.mark.parametrize("name", ["adagrad", "sgd", "rowwise_adagrad"])
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_touched_rows_end_as_in_the_dense_update_and_others_stay(name, hidden, data):
    touched, dense, start = steps(name, hidden)
    states = [start, start]
    for _ in range(2):
        size = data.draw(st.integers(1, BATCH_SIZE))
        rows = [
            data.draw(st.lists(st.integers(0, n - 1), min_size=size, max_size=size))
            for n in (NUM_QUERIES, NUM_CANDIDATES)
        ]
        batch = one_batch(*rows)
        states = [step(state, batch)[0] for step, state in zip((touched, dense), states, strict=True)]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), *states)


@pytest.mark.slow
def test_a_penalty_on_one_table_alone_goes_with_touched_rows_in_all():
    penalty = row_penalty({"query_tower/embedding": np.arange(NUM_QUERIES) * 0.1})
    model, states = make_model(), []
    chained = by_name.chained(by_name.create("adagrad", 0.1), [penalty], [])
    for rule in (chained, optax.GradientTransformation(*chained)):
        state = create_state(model, rule)
        for rows in ([1, 2], [2, 5]):
            state, _ = train_step(state, one_batch(rows, rows), InBatchSoftmax(), model, rule)
        states.append(state)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), *states)


def test_rows_that_no_batch_touches_keep_their_bits_and_touched_ones_do_not():
    touched, _, start = steps("adagrad", ())
    state, _ = touched(start, one_batch([0, 3, 3], [0, 1, 6]))
    for table, rows in (
        ("query_tower/embedding/embedding", {0, 3}),
        ("candidate_tower/embedding/embedding", {0, 1, 6}),
    ):
        before, after = (np.asarray(flatten_params(s.params)[table]) for s in (start, state))
        assert set(np.flatnonzero((before != after).any(axis=1)).tolist()) == rows


def test_lazy_adam_is_adam_on_the_first_step_and_leaves_the_untouched_moments_alone_on_the_next():
    with jax.numpy_dtype_promotion("standard"):  # optax mixes types in adam
        optimizer = by_name.create("lazy_adam", 0.1)
        model = make_model()
        step, dense = (
            jax.jit(functools.partial(train_step, loss=InBatchSoftmax(), model=model, optimizer=rule))
            for rule in (optimizer, optax.adam(0.1))
        )
        start = create_state(model, optimizer)
        first, _ = step(start, one_batch([1, 2], [1, 2]))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), first, dense(start, one_batch([1, 2], [1, 2]))[0]
        )
        second, _ = step(first, one_batch([3, 2], [3, 2]))
        moved, _ = dense(first, one_batch([3, 2], [3, 2]))
    table = "query_tower/embedding/embedding"
    values = [np.asarray(flatten_params(state.params)[table])[1] for state in (first, second, moved)]
    assert np.array_equal(values[0], values[1]) and not np.array_equal(values[0], values[2])


def test_rowwise_adagrad_divides_by_the_root_of_the_rows_mean_squares():
    optimizer = by_name.create("rowwise_adagrad", 0.1, initial_accumulator_value=1.0, eps=0.0)
    table = {"table": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    state = optimizer.init(table)
    gradients = {"table": jnp.array([[2.0, 4.0], [0.0, 0.0]]), "bias": jnp.array([3.0, 0.0])}
    updates, state = optimizer.update(gradients, state)
    assert updates["table"].tolist() == [pytest.approx([-0.2 / 11**0.5, -0.4 / 11**0.5]), [0.0, 0.0]]
    assert updates["bias"].tolist() == pytest.approx([-0.3 / 10**0.5, 0.0])
    assert state.sum_of_squares["table"].tolist() == pytest.approx([11.0, 1.0])


@pytest.mark.parametrize(("name", "arguments"), [("sgd", {"momentum": 0.9}), ("adam", {}), ("rmsprop", {})])
def test_rules_that_move_untouched_rows_stay_dense(name, arguments):
    assert not isinstance(by_name.create(name, 0.1, **arguments), TouchedRows)


def compiled_step(num_rows):
    """Returns the step on tables of `num_rows` rows with the state donated, and what it takes."""
    model, optimizer = make_model(num_rows, num_rows, dimension=8), by_name.create("adagrad", 0.1)

    def step(state, batch):
        return train_step(state, batch, InBatchSoftmax(), model, optimizer)

    arguments = create_state(model, optimizer), one_batch([1, 2, 3], [3, 4, 4])
    return jax.jit(step, donate_argnums=0).lower(*arguments).compile(), arguments


def test_a_donated_state_is_updated_in_place():
    step, (state, batch) = compiled_step(1000)
    leaves = jax.tree.leaves((state.params, state.opt_state))
    before = {leaf.unsafe_buffer_pointer() for leaf in leaves if leaf.ndim == 2}
    reached, _ = step(state, batch)
    after = {
        leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves((reached.params, reached.opt_state)) if leaf.ndim == 2
    }
    assert before == after and len(before) == 4
    assert all(leaf.is_deleted() for leaf in leaves)


def test_the_memory_of_a_step_does_not_grow_with_the_tables():
    sizes = [compiled_step(num_rows)[0].memory_analysis().temp_size_in_bytes for num_rows in (1000, 50_000)]
    assert sizes[1] <= sizes[0] + 1024


@pytest.mark.slow
def test_towers_that_share_a_table_or_tell_nothing_are_updated_densely():
    shared = IdTower(5, 3, initial_scale=1.0, rngs=nnx.Rngs(0))
    assert TwoTower(shared, shared).lookups(jnp.arange(2), jnp.arange(2)) == {}

    class Plain(nnx.Module):
        def __init__(self):
            self.table = nnx.Embed(5, 3, rngs=nnx.Rngs(1))

        def __call__(self, rows):
            return self.table(rows)

    model = TwoTower(Plain(), shared)
    assert list(model.lookups(jnp.arange(2), jnp.arange(2))) == ["candidate_tower/embedding"]
    state = create_state(model, by_name.create("sgd", 0.1))
    batch = one_batch([1, 2], [1, 2])
    reached, _ = train_step(state, batch, InBatchSoftmax(), model, by_name.create("sgd", 0.1))
    expected, _ = train_step(state, batch, InBatchSoftmax(), model, optax.sgd(0.1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), reached, expected)


@pytest.mark.slow
def test_a_table_of_one_tower_inside_the_other_is_updated_densely_and_the_rest_is_not():
    class OfItems(nnx.Module):
        """A query tower that looks up candidates, in rows that it does not tell."""

        def __init__(self, items):
            self.items = items

        def __call__(self, rows):
            return self.items(rows) + self.items(jnp.full_like(rows, 4))

    candidates = IdTower(6, 3, initial_scale=1.0, rngs=nnx.Rngs(0))
    model = TwoTower(OfItems(candidates), candidates, num_biases=6)
    assert list(model.lookups(jnp.arange(2), jnp.arange(2))) == ["candidate_bias"]
    state, batch = create_state(model, by_name.create("sgd", 0.1)), one_batch([1, 2], [1, 2])
    reached, _ = train_step(state, batch, InBatchSoftmax(), model, by_name.create("sgd", 0.1))
    expected, _ = train_step(state, batch, InBatchSoftmax(), model, optax.sgd(0.1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), reached, expected)


def test_a_tower_may_look_up_held_rows_in_any_order_and_again():
    class Repeating(IdTower):
        def __call__(self, rows):
            return super().__call__(rows[::-1])[::-1] + super().__call__(jnp.concatenate([rows[:1], rows[:-1]]))

    rngs = nnx.Rngs(0)
    model = TwoTower(Repeating(6, 3, initial_scale=1.0, rngs=rngs), IdTower(6, 3, initial_scale=1.0, rngs=rngs))
    state = create_state(model, by_name.create("sgd", 0.1))
    batch = one_batch([0, 2, 4, 5], [1, 2, 3, 3])
    reached, _ = train_step(state, batch, InBatchSoftmax(), model, by_name.create("sgd", 0.1))
    expected, _ = train_step(state, batch, InBatchSoftmax(), model, optax.sgd(0.1))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **CLOSE), reached, expected)


def test_row_zero_is_padding_only_behind_the_first_place():
    assert without_padding(jnp.array([0, 4, 0, 0]), 9).tolist() == [0, 4, 9, 9]
    assert without_padding(jnp.array([2, 0]), 9).tolist() == [2, 9]


def test_a_row_that_is_not_held_has_no_embedding_rather_than_that_of_another():
    table = EmbeddingTable(3, 2, initializer=lambda *_: jnp.arange(6.0).reshape(3, 2), rngs=nnx.Rngs(0))
    table.hold(jnp.array([2, 5, 0]))
    found = table(jnp.array([5, 3, 2, 8]))
    assert found[0].tolist() == [2, 3] and found[2].tolist() == [0, 1] and jnp.all(jnp.isnan(found[jnp.array([1, 3])]))


@pytest.mark.slow
def test_different_towers_that_share_a_table_are_updated_densely():
    rngs = nnx.Rngs(0)
    towers = [IdTower(5, 3, hidden, initial_scale=1.0, rngs=rngs) for hidden in ((), (4,))]
    towers[1].embedding = towers[0].embedding
    model = TwoTower(*towers)
    assert model.lookups(jnp.arange(2), jnp.arange(3)) == {}
    optimizer = by_name.create("adagrad", 0.1)
    train_step(create_state(model, optimizer), one_batch([1, 2], [1, 2]), InBatchSoftmax(), model, optimizer)
