"""Towers, the score of two of them, and the exchange of a model's parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from retrieval.data.encoding import Examples
from retrieval.models.binding import bind, init
from retrieval.models.embedding_table import Fixed
from retrieval.models.id_tower import IdTower
from retrieval.models.layers import MLP, Dropout
from retrieval.models.two_tower import TwoTower
from retrieval.objectives import InBatchSoftmax
from retrieval.training.epochs import fit
from retrieval.training.optimizers.by_name import create
from retrieval.training.step import create_state

ROWS = jnp.arange(5)
POPULARITY = np.array([0.0, 2.0, 5.0, 1.0, 3.0], np.float32)


def id_tower(num_rows=5, dimension=3, hidden_sizes=(), scale=0.1, seed=0):
    return IdTower(num_rows, dimension, hidden_sizes, initial_scale=scale, rngs=nnx.Rngs(seed))


@pytest.fixture
def model():
    return TwoTower(id_tower(4, seed=0), id_tower(5, seed=1), POPULARITY)


def leaves(params):
    return jax.tree.leaves(params)


def test_parameters_are_nested_dicts_of_arrays_by_the_names_of_the_modules(model):
    params = init(model)
    shapes = jax.tree.map(np.shape, params)
    assert shapes == {
        "query_tower": {"embedding": {"embedding": (4, 3)}},
        "candidate_tower": {"embedding": {"embedding": (5, 3)}},
    }
    assert type(params) is type(params["query_tower"]) is dict
    assert all(isinstance(leaf, jax.Array) for leaf in leaves(params))


def test_a_change_of_the_parameters_does_not_reach_the_model(model):
    params = init(model)
    params["query_tower"]["embedding"]["embedding"] = jnp.zeros((4, 3))
    assert np.any(init(model)["query_tower"]["embedding"]["embedding"] != 0)


def test_a_bound_model_has_the_given_parameters_and_the_rest_of_the_model(model):
    bound = bind(model, jax.tree.map(jnp.ones_like, init(model)))
    assert bound.query(jnp.array([1]))[0, :3].tolist() == [1, 1, 1]
    scores = bound.query(jnp.array([1])) @ bound.candidate(ROWS).T
    assert scores[0].tolist() == pytest.approx(3 + POPULARITY)


def test_binding_does_not_change_the_model(model):
    before, embeddings = init(model), model.query(ROWS[:4])
    bind(model, jax.tree.map(jnp.ones_like, before))
    assert all(np.array_equal(a, b) for a, b in zip(leaves(init(model)), leaves(before), strict=True))
    assert np.array_equal(model.query(ROWS[:4]), embeddings)


def test_binding_in_a_compiled_function_leaves_no_tracer_in_the_model(model):
    embeddings = model.query(ROWS[:4])
    with jax.checking_leaks():
        doubled = jax.jit(lambda params: bind(model, params).query(ROWS[:4]))(
            jax.tree.map(lambda leaf: 2 * leaf, init(model))
        )
    assert np.array_equal(doubled[:, :3], 2 * embeddings[:, :3])
    assert np.array_equal(model.query(ROWS[:4]), embeddings)


def test_gradients_flow_to_the_bound_parameters(model):
    gradients = jax.grad(lambda params: jnp.sum(bind(model, params).query(jnp.array([2, 2]))))(init(model))
    assert gradients["query_tower"]["embedding"]["embedding"].tolist() == [[0] * 3, [0] * 3, [2] * 3, [0] * 3]
    assert np.all(gradients["candidate_tower"]["embedding"]["embedding"] == 0)


def test_a_missing_parameter_is_refused_by_name(model):
    params = init(model)
    del params["candidate_tower"]["embedding"]["embedding"]
    with pytest.raises(ValueError, match="candidate_tower/embedding/embedding: .* received none of that name"):
        bind(model, params)


def test_an_unknown_parameter_is_refused_by_name(model):
    params = init(model)
    params["query_tower"]["bias"] = jnp.zeros(3)
    with pytest.raises(ValueError, match="query_tower/bias: the model has none of that name"):
        bind(model, params)


def test_a_misspelt_parameter_is_refused_by_name(model):
    params = init(model)
    params["query_tower"]["embeding"] = params["query_tower"].pop("embedding")
    with pytest.raises(ValueError, match="query_tower/embed"):
        bind(model, params)


def test_a_parameter_of_another_shape_is_refused_with_both_shapes(model):
    params = init(model)
    params["query_tower"]["embedding"]["embedding"] = jnp.zeros((4, 7))
    with pytest.raises(ValueError, match=r"query_tower/embedding/embedding: .*\(4, 3\), received \(4, 7\)"):
        bind(model, params)


def test_without_a_prior_the_score_is_the_dot_product_of_the_towers():
    model = TwoTower(id_tower(seed=0), id_tower(seed=1))
    params = jax.tree.map(jnp.ones_like, init(model))
    params["query_tower"]["embedding"]["embedding"] *= 2
    bound = bind(model, params)
    assert (bound.query(ROWS[:1]) @ bound.candidate(ROWS[:1]).T).tolist() == [[6]]


def test_the_prior_is_added_to_the_dot_product_of_the_towers(model):
    towers = model.query_tower(ROWS[:4]) @ model.candidate_tower(ROWS).T
    scores = model.query(ROWS[:4]) @ model.candidate(ROWS).T
    np.testing.assert_allclose(scores - towers, np.tile(POPULARITY, (4, 1)), atol=1e-6)


def test_towers_near_zero_and_unknown_queries_rank_by_the_prior():
    model = TwoTower(id_tower(scale=1e-4, seed=0), id_tower(scale=1e-4, seed=1), POPULARITY)
    scores = model.query(ROWS) @ model.candidate(ROWS).T
    assert np.argsort(-scores, axis=1).tolist() == [[2, 4, 1, 3, 0]] * 5
    assert scores[0].tolist() == POPULARITY.tolist()


def test_the_prior_is_no_parameter(model):
    assert "log_prior" not in init(model)


def test_squared_norms_are_those_of_the_towers_without_the_prior(model):
    embeddings = jnp.array([[1.0, 2.0, 3.0, 100.0]])
    assert model.squared_norms(embeddings).tolist() == [14]
    assert TwoTower(model.query_tower, model.candidate_tower).squared_norms(embeddings).tolist() == [10014]


def test_randomness_is_bound_by_the_key_for_each_module_apart():
    class Dropped(IdTower):
        def __init__(self, seed):
            super().__init__(5, 64, initial_scale=1.0, rngs=nnx.Rngs(seed))
            self.dropout = Dropout(0.5)

        def __call__(self, rows):
            return self.dropout(super().__call__(rows))

    model = TwoTower(Dropped(0), Dropped(0))
    params = init(model)
    plain, random, again = (bind(model, params, key=key) for key in (None, jax.random.key(3), jax.random.key(3)))
    assert np.array_equal(plain.query(ROWS), model.query(ROWS))
    assert np.array_equal(random.query(ROWS), again.query(ROWS))
    assert not np.array_equal(random.query(ROWS), plain.query(ROWS))
    assert not np.array_equal(random.query(ROWS), random.candidate(ROWS))
    assert model.query_tower.dropout.key is None


def test_an_unknown_id_has_an_embedding_of_zero_and_no_other_has():
    embeddings = id_tower()(ROWS)
    assert np.all(embeddings[0] == 0)
    assert np.all(embeddings[1:] != 0)


def test_initial_embeddings_are_normal_and_cut_at_twice_their_scale():
    values = np.asarray(id_tower(1001, 64, scale=0.5)(jnp.arange(1, 1001)))
    assert 0.99 < np.abs(values).max() <= 1
    assert values.std() == pytest.approx(0.5 * 0.88, rel=0.02)  # a normal cut at 2 has standard deviation 0.88


def test_two_towers_of_one_stream_of_random_numbers_start_differently():
    rngs = nnx.Rngs(0)
    one, other = (IdTower(5, 3, initial_scale=0.1, rngs=rngs) for _ in range(2))
    assert not np.array_equal(one(ROWS), other(ROWS))


ABSOLUTE_LESS_FIVE = {
    "layers": {
        "layer_0": {"kernel": jnp.array([[1.0, -1.0]]), "bias": jnp.zeros(2)},
        "layer_1": {"kernel": jnp.array([[1.0], [1.0]]), "bias": jnp.array([-5.0])},
    }
}


def test_an_mlp_has_a_relu_between_its_layers_and_none_at_either_end():
    mlp = bind(MLP((1, 2, 1), rngs=nnx.Rngs(0)), ABSOLUTE_LESS_FIVE)
    assert mlp(jnp.array([[3.0], [-3.0], [7.0]])).tolist() == [[-2], [-2], [2]]


def test_layers_of_a_deep_mlp_keep_their_order_in_a_bound_model():
    mlp = MLP([64] * 13, rngs=nnx.Rngs(0))  # by name, layer_10 comes before layer_2
    x = jax.random.normal(jax.random.key(0), (2, 64))
    assert np.any(mlp(x) != 0)
    assert np.array_equal(bind(mlp, init(mlp))(x), mlp(x))


def test_hidden_sizes_put_that_many_layers_and_one_of_the_embeddings_size_over_them():
    layers = init(id_tower(dimension=3, hidden_sizes=(6, 4)))["mlp"]["layers"]
    assert [layers[f"layer_{i}"]["kernel"].shape for i in range(len(layers))] == [(3, 6), (6, 4), (4, 3)]
    assert "mlp" not in init(id_tower())


def test_an_id_tower_is_an_mlp_over_the_embeddings_of_its_rows():
    params = {"embedding": {"embedding": jnp.array([[0.0], [-3.0], [7.0]])}, "mlp": ABSOLUTE_LESS_FIVE}
    tower = bind(id_tower(3, 1, hidden_sizes=(2,)), params)
    assert tower(jnp.array([2, 0, 1])).tolist() == [[2], [-5], [-2]]


class GenreTower(nnx.Module):
    """A tower of a user: what a candidate's genres say, and nothing of its id."""

    def __init__(self, genres, dimension, rngs):
        self.genres = genres
        self.linear = nnx.Linear(genres.shape[1], dimension, rngs=rngs)

    def __call__(self, rows):
        return self.linear(self.genres[rows])


GENRES = jnp.eye(2)[jnp.array([0, 0, 1, 0, 1])]


@pytest.mark.parametrize("wrap", [Fixed, nnx.Variable, lambda array: array], ids=["fixed", "variable", "array"])
def test_a_module_of_ones_own_with_a_fixed_matrix_trains_as_a_tower(wrap):
    model = TwoTower(id_tower(seed=0), GenreTower(wrap(GENRES), 3, nnx.Rngs(1)))
    # queries 1 and 2 take candidates of genre 0, queries 3 and 4 those of genre 1
    examples = Examples(
        np.array([1, 1, 2, 3, 4, 4], np.int32), np.array([1, 3, 3, 2, 2, 4], np.int32), np.ones(6, np.float32)
    )
    *_, (state, _) = fit(model, examples, InBatchSoftmax(), optax.adagrad(0.1), batch_size=6, epochs=40, seed=0)
    assert set(state.params["candidate_tower"]) == {"linear"}
    trained = bind(model, state.params)
    scores = trained.query(ROWS) @ trained.candidate(ROWS).T
    assert np.argmax(scores[1:, [1, 2]], axis=1).tolist() == [0, 0, 1, 1]
    assert np.array_equal(trained.candidate_tower.genres[...], GENRES)


@pytest.mark.slow
def test_narrow_towers_have_narrow_parameters_and_outputs_and_an_optimizer_in_float32():
    rngs = nnx.Rngs(0)
    towers = [IdTower(9, 4, (8,), initial_scale=0.1, dtype=jnp.bfloat16, rngs=rngs) for _ in range(2)]
    model = TwoTower(*towers, np.zeros(9, np.float32))
    assert {leaf.dtype for leaf in leaves(init(model))} == {jnp.dtype(jnp.bfloat16)}
    assert model.query(ROWS).dtype == jnp.bfloat16 and model.squared_norms(model.query(ROWS)).dtype == jnp.float32
    state = create_state(model, create("adagrad", 0.1))
    assert {leaf.dtype for leaf in leaves(state.opt_state)} == {jnp.dtype(jnp.float32)}
    rows = np.arange(1, 9, dtype=np.int32)
    examples = Examples(rows, rows, np.ones(8, np.float32))
    fitted = list(fit(model, examples, InBatchSoftmax(), create("adagrad", 0.1), batch_size=4, epochs=20, seed=0))
    assert {leaf.dtype for leaf in leaves(fitted[-1][0].params)} == {jnp.dtype(jnp.bfloat16)}
    assert fitted[-1][1]["loss"] < 0.8 * fitted[0][1]["loss"]
