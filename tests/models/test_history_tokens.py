"""Tokens: START, side inputs and noise before a history encoder."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from history_cases import at_random, with_key
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.models.binding import init
from retrieval.models.history import Tokens, log_buckets

REAL = jnp.array([[False, True, True], [True, True, True], [False, False, False]])
EMBEDDINGS = jax.random.normal(jax.random.key(0), (3, 3, 4))


def tokens(**kwargs):
    return at_random(Tokens(4, rngs=nnx.Rngs(0), **kwargs))


def test_start_stands_before_a_history_and_in_its_padding():
    module = tokens()
    out, real = module(EMBEDDINGS, REAL)
    start = module.start[...]
    assert real.tolist() == [[False, False, True, True], [False, True, True, True], [False] * 4]
    assert np.array_equal(out[~real], np.tile(start, (7, 1)))
    assert np.array_equal(out[real], EMBEDDINGS[REAL])


def test_values_in_padding_are_ignored_and_have_no_gradient_even_if_they_are_not_numbers():
    module = tokens()
    out, _ = module(jnp.where(REAL[..., None], EMBEDDINGS, jnp.nan), REAL)
    assert np.array_equal(out, module(EMBEDDINGS, REAL)[0])
    gradient = jax.grad(lambda x: jnp.sum(module(x, REAL)[0]))(jnp.where(REAL[..., None], EMBEDDINGS, jnp.nan))
    assert np.array_equal(gradient, jnp.broadcast_to(REAL[..., None], gradient.shape).astype(jnp.float32))


def test_side_inputs_are_added_to_real_tokens_by_their_rows_and_buckets():
    module = tokens(num_ratings=6, gaps=True, ages=True)
    ratings = jnp.array([[5, 0, 3], [1, 2, 3], [4, 4, 4]])
    gaps = jnp.array([[9, -1, 3600], [-1, 0, 1], [0, 0, 0]])
    ages = jnp.array([[1, 86400, 7], [2, 3, 4], [5, 6, 7]])
    out, real = module(EMBEDDINGS, REAL, ratings, gaps, ages)
    table = {name: np.asarray(param[...]) for name, param in module.tables.items()}
    one = EMBEDDINGS[0, 1] + table["ratings"][0] + table["gaps"][0] + table["ages"][18]
    other = EMBEDDINGS[0, 2] + table["ratings"][3] + table["gaps"][13] + table["ages"][4]
    np.testing.assert_allclose(out[0, 2:], [one, other], rtol=1e-5, atol=1e-6)
    assert np.array_equal(out[~real], np.tile(module.start[...], (7, 1)))


def test_side_inputs_add_nothing_at_first_and_nothing_where_there_are_none():
    fresh, plain = Tokens(4, gaps=True, rngs=nnx.Rngs(0)), Tokens(4, rngs=nnx.Rngs(0))
    assert np.array_equal(fresh(EMBEDDINGS, REAL, gaps=jnp.full((3, 3), 7))[0], plain(EMBEDDINGS, REAL)[0])
    trained = tokens(gaps=True)
    assert np.array_equal(trained(EMBEDDINGS, REAL)[0][:, 1:][REAL], EMBEDDINGS[REAL])
    assert set(init(plain)) == {"start"} and set(init(trained)["tables"]) == {"gaps"}


@pytest.mark.parametrize("name", ["ratings", "gaps", "ages"])
def test_a_side_input_without_a_table_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"Tokens has no table of {name}, yet received them"):
        tokens()(EMBEDDINGS, REAL, **{name: jnp.ones((3, 3), jnp.int32)})


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 2**31 - 1), min_size=64, max_size=64))
def test_the_bucket_of_a_duration_is_its_number_of_binary_digits(seconds):
    edges = [0, *(2**n - 1 for n in range(1, 32)), *(2**n for n in range(31))]
    for column in (seconds, edges):
        assert log_buckets(jnp.array(column)).tolist() == [second.bit_length() + 1 for second in column]


def test_noise_takes_that_share_of_the_interactions_out_of_histories_in_training_alone():
    module = tokens(noise=0.3)
    embeddings, real = jnp.ones((100, 50, 4)), jnp.arange(50)[None] >= jnp.arange(100)[:, None] % 50
    assert np.array_equal(module(embeddings, real)[1][:, 1:], real)
    out, left = with_key(module, 1)(embeddings, real)
    assert not np.any(left[:, 1:] & ~real)
    assert np.sum(left) / np.sum(real) == pytest.approx(0.7, abs=0.03)
    assert np.array_equal(out[~left], np.tile(module.start[...], (int(np.sum(~left)), 1)))
    assert np.all(out[left] == 1)
    assert np.array_equal(left, with_key(module, 1)(embeddings, real)[1])
    assert np.any(left != with_key(module, 2)(embeddings, real)[1])


def test_dropout_spares_start():
    out, real = with_key(tokens(dropout=0.5), 1)(EMBEDDINGS, REAL)
    start = tokens().start[...]
    assert np.array_equal(out[~real], np.tile(start, (7, 1)))
    assert set(np.unique(out[real] == 0)) == {False, True}


def test_narrow_tokens_stay_narrow():
    module = Tokens(4, num_ratings=2, gaps=True, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
    rows = jnp.ones((3, 3), jnp.int32)
    out, _ = with_key(module, 0)(EMBEDDINGS.astype(jnp.bfloat16), REAL, rows, rows)
    assert out.dtype == jnp.bfloat16


def test_a_rate_of_noise_that_is_no_probability_is_refused():
    with pytest.raises(ValueError, match=r"noise must be in \[0, 1\), got 1.0"):
        Tokens(4, noise=1.0, rngs=nnx.Rngs(0))
