"""Layers against plain forms, and randomness that is a function of the key alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.models.binding import bind, init
from retrieval.models.layers import MLP, CrossLayers, Dropout, FeatureDropout, LayerNorm

X = jax.random.normal(jax.random.key(0), (5, 4))


def with_key(module, seed=0):
    return bind(module, init(module), key=jax.random.key(seed))


class Wrapped(nnx.Module):
    """Any layers, as a model that `bind` takes."""

    def __init__(self, **layers):
        self.layers = nnx.Dict(layers)


def test_dropout_without_a_key_or_a_rate_changes_nothing():
    assert Dropout(0.9)(X) is X
    model = with_key(Wrapped(dropout=Dropout(0.0)))
    assert model.layers["dropout"](X) is X


def test_dropout_keeps_the_mean_and_the_expected_share():
    layer = with_key(Wrapped(dropout=Dropout(0.2))).layers["dropout"]
    values = np.asarray(layer(jnp.ones((200, 200))))
    assert set(np.unique(values).tolist()) == {0.0, 1.25}
    assert (values == 0).mean() == pytest.approx(0.2, abs=0.01)


def test_a_key_draws_the_same_again_and_another_key_or_layer_something_else():
    def draw(seed, name):
        return np.asarray(with_key(Wrapped(one=Dropout(0.5), other=Dropout(0.5)), seed).layers[name](jnp.ones((8, 8))))

    assert np.array_equal(draw(0, "one"), draw(0, "one"))
    assert not np.array_equal(draw(0, "one"), draw(1, "one"))
    assert not np.array_equal(draw(0, "one"), draw(0, "other"))


def test_binding_a_key_leaves_the_model_itself_deterministic():
    model = Wrapped(dropout=Dropout(0.5))
    with_key(model)
    assert model.layers["dropout"].key is None and model.layers["dropout"](X) is X


def test_an_entry_of_a_dict_that_is_called_key_is_no_key():
    model = Wrapped(key=Dropout(0.5), items=LayerNorm(4))
    bound = with_key(model)
    assert isinstance(bound.layers["key"], Dropout) and isinstance(bound.layers["items"], LayerNorm)
    assert bound.layers["key"].key is not None


def test_keys_bind_inside_a_compiled_function_without_another_program_for_another_key():
    model = Wrapped(dropout=Dropout(0.5))
    traced = []

    @jax.jit
    def draw(key):
        traced.append(key)
        return bind(model, init(model), key=key).layers["dropout"](jnp.ones((8, 8)))

    first, second = draw(jax.random.key(0)), draw(jax.random.key(1))
    assert len(traced) == 1 and not np.array_equal(first, second)
    assert np.array_equal(first, with_key(model, 0).layers["dropout"](jnp.ones((8, 8))))


def test_features_are_dropped_for_whole_examples_at_their_rate_and_only_with_a_key():
    assert FeatureDropout(0.5)((4,)) is None
    layer = with_key(Wrapped(dropout=FeatureDropout(0.25))).layers["dropout"]
    dropped = np.asarray(layer((100, 100)))
    assert dropped.dtype == bool and dropped.mean() == pytest.approx(0.25, abs=0.02)
    assert with_key(Wrapped(dropout=FeatureDropout(0.0))).layers["dropout"]((4,)) is None


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
@pytest.mark.parametrize("layer", [Dropout, FeatureDropout])
def test_a_rate_that_is_no_probability_below_one_is_refused(layer, rate):
    with pytest.raises(ValueError, match=r"a dropout rate must be in \[0, 1\), got"):
        layer(rate)


def test_a_normalised_vector_has_mean_zero_and_variance_one_before_scale_and_bias():
    layer = LayerNorm(4)
    values = np.asarray(layer(100 * X + 7))
    np.testing.assert_allclose(values.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(values.var(axis=1), 1, rtol=1e-3)
    params = {"scale": jnp.array([1.0, 2.0, 3.0, 4.0]), "bias": jnp.array([5.0, 6.0, 7.0, 8.0])}
    expected = values * np.array([1, 2, 3, 4]) + np.array([5, 6, 7, 8])
    np.testing.assert_allclose(bind(layer, params)(100 * X + 7), expected, rtol=1e-5)


def test_a_variance_that_is_small_beside_the_mean_is_not_lost():
    x = 1000 + 0.05 * X
    expected = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    np.testing.assert_allclose(LayerNorm(4)(x), expected, rtol=1e-2)


def test_a_narrow_layer_norm_is_the_wide_one_rounded_once():
    x = (3 * X + 1).astype(jnp.bfloat16)
    narrow, wide = LayerNorm(4, dtype=jnp.bfloat16)(x), LayerNorm(4)(x.astype(jnp.float32))
    assert narrow.dtype == jnp.bfloat16 and np.array_equal(narrow, wide.astype(jnp.bfloat16))


def test_a_constant_vector_is_normalised_to_the_bias_with_a_finite_gradient():
    layer = LayerNorm(3)
    assert layer(jnp.full((1, 3), 5.0)).tolist() == [[0, 0, 0]]
    assert np.all(np.isfinite(jax.grad(lambda x: jnp.sum(layer(x) ** 2))(jnp.zeros((1, 3)))))


def plain_mlp(params, x):
    """Returns the MLP of one vector, layer by layer, in NumPy."""
    number = len(params["layers"])
    for i in range(number):
        layer = params["layers"][f"layer_{i}"]
        x = x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"])
        x = np.maximum(x, 0) if i < number - 1 else x
    return x


@settings(deadline=None, max_examples=15)
@given(sizes=st.lists(st.sampled_from([1, 4]), min_size=2, max_size=5))
def test_an_mlp_is_its_layers_one_after_the_other(sizes):
    mlp = MLP(sizes, dropout=0.5, rngs=nnx.Rngs(0))
    params = jax.tree.map(lambda leaf: leaf + 0.1, init(mlp))
    x = np.asarray(jax.random.normal(jax.random.key(1), (2, sizes[0])))
    expected = [plain_mlp(params, row.astype(np.float64)) for row in x]
    np.testing.assert_allclose(bind(mlp, params)(jnp.asarray(x)), expected, rtol=1e-4, atol=1e-3)


def test_an_mlp_without_options_has_the_parameters_of_its_layers_alone():
    assert jax.tree.map(jnp.shape, init(MLP((3, 2, 1), rngs=nnx.Rngs(0)))) == {
        "layers": {
            "layer_0": {"kernel": (3, 2), "bias": (2,)},
            "layer_1": {"kernel": (2, 1), "bias": (1,)},
        }
    }


def test_dropout_of_an_mlp_reaches_the_hidden_layers_and_not_the_output():
    mlp = MLP((4, 64, 4), dropout=0.5, rngs=nnx.Rngs(0))
    outputs = with_key(mlp)(X)
    assert not np.array_equal(outputs, mlp(X)) and np.all(outputs != 0)
    linear = MLP((4, 4), dropout=0.5, rngs=nnx.Rngs(0))
    assert np.array_equal(with_key(linear)(X), linear(X))


def test_hidden_layers_of_an_mlp_drop_different_values():
    mlp = MLP((1, 50, 50, 50, 50), dropout=0.5, rngs=nnx.Rngs(0))
    keys = [module.key for _, module in nnx.iter_modules(with_key(mlp)) if isinstance(module, Dropout)]
    assert len({tuple(jax.random.key_data(key).tolist()) for key in keys}) == 3


def test_a_dropout_rate_of_an_mlp_that_is_no_probability_is_refused():
    with pytest.raises(ValueError, match="a dropout rate must be in"):
        MLP((2, 2, 2), dropout=1.5, rngs=nnx.Rngs(0))


@settings(deadline=None, max_examples=12)
@given(size=st.integers(1, 5), layers=st.integers(0, 3), rank=st.integers(0, 3))
def test_cross_layers_multiply_by_the_input_and_add_what_comes_in(size, layers, rank):
    cross = CrossLayers(size, layers, rank, rngs=nnx.Rngs(0))
    params = jax.tree.map(lambda leaf: leaf + 0.1, init(cross))
    first = np.asarray(jax.random.normal(jax.random.key(2), (3, size)), np.float64)
    x = first
    for i in range(layers):
        kernel = np.asarray(params["layers"][f"layer_{i}"]["kernel"], np.float64)
        if rank:
            kernel = np.asarray(params["narrow"][f"layer_{i}"]["kernel"], np.float64) @ kernel
        x = first * (x @ kernel + np.asarray(params["layers"][f"layer_{i}"]["bias"])) + x
    np.testing.assert_allclose(bind(cross, params)(jnp.asarray(first, jnp.float32)), x, rtol=1e-3, atol=1e-3)


def test_two_cross_layers_by_hand():
    cross = CrossLayers(1, 2, rngs=nnx.Rngs(0))
    params = jax.tree.map(jnp.ones_like, init(cross))
    # x_0 = 2: x_1 = 2 (2 + 1) + 2 = 8, x_2 = 2 (8 + 1) + 8 = 26
    assert bind(cross, params)(jnp.array([[2.0]])).tolist() == [[26]]


def test_a_low_rank_needs_fewer_parameters():
    def count(rank):
        return sum(leaf.size for leaf in jax.tree.leaves(init(CrossLayers(16, 2, rank, rngs=nnx.Rngs(0)))))

    assert count(0) == 2 * (16 * 16 + 16) and count(3) == 2 * (2 * 16 * 3 + 16)


def test_layers_of_a_deep_cross_keep_their_order_in_a_bound_model():
    cross = CrossLayers(2, 12, rngs=nnx.Rngs(0))
    x = 0.1 * X[:, :2]
    assert np.array_equal(bind(cross, init(cross))(x), cross(x))
    swapped = init(cross)
    layers = swapped["layers"]
    layers["layer_2"], layers["layer_10"] = layers["layer_10"], layers["layer_2"]
    assert not np.array_equal(bind(cross, swapped)(x), cross(x))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_layers_keep_the_type_and_any_leading_axes(dtype):
    mlp = MLP((4, 6, 6, 2), dropout=0.5, dtype=dtype, rngs=nnx.Rngs(0))
    cross = CrossLayers(4, 2, 3, dtype=dtype, rngs=nnx.Rngs(1))
    x = jnp.ones((2, 3, 4), dtype)
    for module, size in ((mlp, 2), (cross, 4)):
        assert {leaf.dtype for leaf in jax.tree.leaves(init(module))} == {jnp.dtype(dtype)}
        for form in (module, with_key(module)):
            outputs = form(x)
            assert outputs.dtype == dtype and outputs.shape == (2, 3, size)
        np.testing.assert_allclose(
            module(x)[1, 2].astype(jnp.float32), module(x[1])[2].astype(jnp.float32), rtol=2e-2, atol=2e-2
        )
