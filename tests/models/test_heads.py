"""Heads: what they start at, what they see, and how they travel with the model."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from retrieval.models.binding import bind, init
from retrieval.models.fixed_towers import Blend, FixedTowers
from retrieval.models.heads import Head
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import TwoTower

RNG = np.random.default_rng(0)
Q, C = (jnp.asarray(RNG.normal(size=(5, 3)), jnp.float32) for _ in range(2))


def head(hidden_sizes=(), start=3.5, **settings):
    return Head(3, hidden_sizes, start=start, rngs=nnx.Rngs(0), **settings)


def moved(module, seed=0):
    """Returns the module with parameters that are all different."""
    keys = iter(jax.random.split(jax.random.key(seed), 99))
    return bind(module, jax.tree.map(lambda leaf: jax.random.normal(next(keys), leaf.shape, leaf.dtype), init(module)))


def two_tower(**settings):
    towers = (IdTower(6, 3, initial_scale=1.0, rngs=nnx.Rngs(i)) for i in range(2))
    return TwoTower(*towers, **settings)


@pytest.mark.parametrize("hidden_sizes", [(), (4,), (4, 3)])
def test_a_head_starts_at_the_mean_or_at_the_base_rate_for_every_pair(hidden_sizes):
    np.testing.assert_array_equal(head(hidden_sizes, deviation=1.2)(Q, C), np.full(5, 3.5, np.float32))
    event = head(hidden_sizes, start=float(np.log(3)), is_binary=True)
    np.testing.assert_allclose(event.expected(event(Q, C)), np.full(5, 0.75), rtol=1e-6)


def test_the_outputs_are_those_of_the_plain_mlp():
    module = moved(head((4, 2), deviation=1.5))
    params = jax.tree.map(np.asarray, init(module))
    x = np.concatenate([Q, C, Q * C], axis=1)
    for name in ("layer_0", "layer_1"):
        x = np.maximum(x @ params["hidden"][name]["kernel"] + params["hidden"][name]["bias"], 0)
    expected = 3.5 + 1.5 * (x @ params["output"]["kernel"] + params["output"]["bias"])[:, 0]
    np.testing.assert_allclose(module(Q, C), expected, rtol=1e-5)


def test_the_output_layer_has_a_gradient_at_the_start_and_the_towers_after_it():
    module = head((4,))
    gradients = jax.grad(lambda params: jnp.sum(bind(module, params)(Q, C)))(init(module))
    assert np.any(np.asarray(gradients["output"]["kernel"])) and not np.any(
        np.asarray(gradients["hidden"]["layer_0"]["kernel"])
    )
    assert np.any(np.asarray(jax.grad(lambda q: jnp.sum(moved(module)(q, C)))(Q)))


@pytest.mark.parametrize(
    "settings", [{}, {"log_prior": np.linspace(-9, 9, 6, dtype=np.float32)}, {"num_biases": 6}, {"temperature": 0.05}]
)
def test_heads_see_neither_the_offset_nor_the_temperature(settings):
    module, rows = moved(head()), jnp.array([1, 2, 5])
    model = two_tower(heads={"rating": module}, **settings)
    q, c = model.query_tower(rows), model.candidate_tower(rows)
    if settings.get("temperature"):
        q, c = (x / jnp.linalg.norm(x, axis=1, keepdims=True) for x in (q, c))
    found = model.predict(model.query(rows), model.candidate(rows))
    np.testing.assert_allclose(found["rating"], module(q, c), rtol=1e-5)


def test_narrow_outputs_are_widened():
    assert head()(Q.astype(jnp.bfloat16), C.astype(jnp.bfloat16)).dtype == jnp.float32


def test_a_linear_model_beside_the_towers_is_not_seen():
    model = two_tower(heads={"rating": moved(head())}, log_prior=np.zeros(6, np.float32))
    beside = FixedTowers(*(RNG.normal(size=(6, 2)).astype(np.float32) for _ in range(2)))
    rows = jnp.array([1, 4])
    both = Blend(model, beside)
    expected = model.predict(model.query(rows), model.candidate(rows))
    np.testing.assert_array_equal(both.predict(both.query(rows), both.candidate(rows))["rating"], expected["rating"])


def test_a_model_without_heads_has_no_parameters_of_them():
    assert two_tower().predict(Q, C) == {}
    assert set(init(two_tower())) == {"query_tower", "candidate_tower"}


def test_heads_draw_nothing_that_towers_would_have_drawn():
    kinds = [
        type(m).__name__ for _, m in nnx.iter_modules(head((4, 4))) if hasattr(m, "key") and not isinstance(m, nnx.Dict)
    ]
    assert kinds == []  # `bind` counts the random modules: another one would change the draws of all after it
