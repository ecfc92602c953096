"""Embeddings of looked-up rows and of dense values, against plain forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.models.binding import bind, init
from retrieval.models.feature_embeddings import Dense, Lookup

CLOSE = {"rtol": 1e-5, "atol": 1e-6}
KEY = jax.random.key(0)


def lookup(num_rows=9, dimension=3, seed=0, **options):
    return Lookup(num_rows, dimension, initial_scale=1.0, rngs=nnx.Rngs(seed), **options)


def moved(module):
    """Returns the module with all its parameters off zero, and the parameters."""
    params = jax.tree.map(lambda leaf: leaf + 0.5, init(module))
    return bind(module, params), params


def combined(table, rows, weights, combiner):
    """Returns the combination of one example's rows, in NumPy."""
    if not np.any(weights):
        return table[0]
    total = sum(weight * table[row] for row, weight in zip(rows, weights, strict=True))
    return total / {"sum": 1, "mean": np.sum(weights), "sqrtn": np.sqrt(np.sum(weights**2))}[combiner]


@pytest.mark.parametrize("combiner", ["mean", "sum", "sqrtn"])
@settings(deadline=None, max_examples=15)
@given(data=st.data(), width=st.integers(1, 4))
def test_a_lookup_combines_the_embeddings_of_its_rows_by_their_weights(combiner, data, width):
    module, params = moved(lookup(combiner=combiner))
    rows = np.array(data.draw(st.lists(st.integers(0, 8), min_size=2 * width, max_size=2 * width))).reshape(2, width)
    values = st.sampled_from([0.0, 0.25, 1.0, 3.0])
    weights = np.array(data.draw(st.lists(values, min_size=2 * width, max_size=2 * width)), np.float32)
    weights = weights.reshape(2, width)
    table = np.asarray(params["table"]["embedding"])
    expected = [combined(table, *of, combiner) for of in zip(rows, weights, strict=True)]
    np.testing.assert_allclose(module(jnp.asarray(rows), jnp.asarray(weights)), expected, **CLOSE)
    every = [combined(table, of, np.ones(width), combiner) for of in rows]
    np.testing.assert_allclose(module(jnp.asarray(rows)), every, **CLOSE)


def test_padding_has_no_effect_whatever_row_it_names():
    module, _ = moved(lookup())
    rows = jnp.array([[3, 5, 1, 8]])
    weights = jnp.array([[1.0, 2.0, 0.0, 0.0]])
    np.testing.assert_allclose(module(rows, weights), module(rows[:, :2], weights[:, :2]), **CLOSE)


def test_what_is_missing_is_row_zero_and_starts_at_zero():
    fresh, (module, params) = lookup(), moved(lookup())
    rows, weights = jnp.array([[4, 2]]), jnp.zeros((1, 2))
    assert fresh(rows, weights).tolist() == [[0, 0, 0]] and np.all(fresh(jnp.array([[4]])) != 0)
    assert np.array_equal(module(rows, weights)[0], params["table"]["embedding"][0])


@pytest.mark.parametrize("width", [1, 3])
def test_a_dropped_lookup_is_that_of_row_zero_and_trains_it(width):
    module = lookup(dropout=0.5)
    params = jax.tree.map(lambda leaf: leaf + 0.5, init(module))
    rows = jnp.full((200, width), 4)
    weights = None if width == 1 else jnp.ones(rows.shape)

    def outputs(params):
        return bind(module, params, key=KEY)(rows, weights)

    table = np.asarray(params["table"]["embedding"])
    found = np.asarray(outputs(params))
    dropped = np.isclose(found, table[0]).all(axis=1)
    assert 60 < dropped.sum() < 140 and np.allclose(found[~dropped], table[4])
    gradient = np.asarray(jax.grad(lambda params: jnp.sum(outputs(params)))(params)["table"]["embedding"])
    np.testing.assert_allclose(gradient[0], dropped.sum(), rtol=1e-4)
    np.testing.assert_allclose(gradient[4], (~dropped).sum(), rtol=1e-4)
    assert np.array_equal(outputs(params), found)
    assert np.array_equal(bind(module, params)(rows, weights), np.tile(bind(module, params)(rows[:1]), (200, 1)))


def test_gradients_of_a_lookup_are_finite_where_everything_is_missing():
    for combiner in ("mean", "sum", "sqrtn"):
        module = lookup(combiner=combiner)
        gradient = jax.grad(lambda p, m=module: jnp.sum(bind(m, p)(jnp.array([[1, 2]]), jnp.zeros((1, 2)))))(
            init(module)
        )
        assert gradient["table"]["embedding"][0].tolist() == [1, 1, 1]


def test_a_combiner_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="combiner must be one of .*, got 'maen'; did you mean 'mean'?"):
        lookup(combiner="maen")


def test_dense_values_are_mapped_linearly_and_a_missing_one_starts_without_effect():
    module = Dense(3, 2, initial_scale=1.0, rngs=nnx.Rngs(0))
    kernel = np.asarray(init(module)["linear"]["kernel"])
    assert np.all(kernel[:2] != 0) and np.all(kernel[2] == 0)
    values = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 1.0]], np.float32)
    np.testing.assert_allclose(module(jnp.asarray(values)), values @ kernel, **CLOSE)
    assert module(jnp.asarray(values))[1].tolist() == [0, 0]


def test_dropped_dense_values_are_those_of_a_missing_feature_and_train_it():
    module = Dense(3, 2, dropout=0.5, initial_scale=1.0, rngs=nnx.Rngs(0))
    params = jax.tree.map(lambda leaf: leaf + 0.5, init(module))
    values = jnp.tile(jnp.array([[1.0, 2.0, 0.0]]), (200, 1))

    def outputs(params):
        return bind(module, params, key=KEY)(values)

    kernel, found = np.asarray(params["linear"]["kernel"]), np.asarray(outputs(params))
    dropped = np.isclose(found, kernel[2]).all(axis=1)
    assert 60 < dropped.sum() < 140
    np.testing.assert_allclose(found[~dropped], np.tile(kernel[0] + 2 * kernel[1], ((~dropped).sum(), 1)), rtol=1e-5)
    gradient = jax.grad(lambda params: jnp.sum(outputs(params)))(params)["linear"]["kernel"]
    assert gradient[2].tolist() == [dropped.sum()] * 2
