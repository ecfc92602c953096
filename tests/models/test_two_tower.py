"""What a score is beside the dot product of the towers: prior, biases and a learned temperature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from retrieval.data.encoding import Examples
from retrieval.models.binding import bind, init
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import LEAST_NORM, TwoTower
from retrieval.objectives import InBatchSoftmax
from retrieval.training.epochs import fit
from retrieval.training.optimizers.by_name import create

ROWS = jnp.arange(5)
POPULARITY = np.array([0.0, 2.0, 5.0, 1.0, 3.0], np.float32)


def id_tower(num_rows=5, dimension=3, scale=0.1, seed=0):
    return IdTower(num_rows, dimension, initial_scale=scale, rngs=nnx.Rngs(seed))


BIASES = np.array([0.0, 3.0, -2.0, 1.0, 0.5], np.float32)


def with_biases(model):
    params = init(model)
    params["candidate_bias"]["embedding"] = jnp.asarray(BIASES)[:, None]
    return bind(model, params)


@pytest.mark.parametrize("temperature", [None, 0.2])
@pytest.mark.parametrize("prior", [None, POPULARITY])
def test_a_bias_is_added_to_the_score_in_one_dimension_that_it_shares_with_the_prior(prior, temperature):
    towers = id_tower(4, scale=1.0, seed=0), id_tower(5, scale=1.0, seed=1)
    bare = TwoTower(*towers, temperature=temperature)
    model = TwoTower(*towers, prior, num_biases=5, temperature=temperature)
    assert model.query(ROWS[:4]).shape == (4, 4) and model.candidate(ROWS).shape == (5, 4)

    def scores(model):
        return model.query(ROWS[:4]) @ model.candidate(ROWS).T

    added = np.zeros(5) if prior is None else prior
    np.testing.assert_allclose(scores(model), scores(bare) + np.tile(added, (4, 1)), rtol=1e-5, atol=1e-5)
    biased = scores(with_biases(model))
    np.testing.assert_allclose(biased, scores(bare) + np.tile(added + BIASES, (4, 1)), rtol=1e-5, atol=1e-5)


def test_a_bias_has_the_gradient_of_its_candidates_scores():
    model = TwoTower(id_tower(4, seed=0), id_tower(5, seed=1), POPULARITY, num_biases=5)

    def value(params):
        bound = bind(model, params)
        return jnp.sum(bound.query(jnp.array([1, 2])) @ bound.candidate(jnp.array([3, 3, 4])).T)

    assert jax.grad(value)(init(model))["candidate_bias"]["embedding"][:, 0].tolist() == [0, 0, 0, 4, 2]


def test_with_a_temperature_the_score_is_the_cosine_over_it():
    model = TwoTower(id_tower(4, scale=1.0, seed=0), id_tower(5, scale=1.0, seed=1), temperature=0.25)
    params = init(model)
    q, c = (np.asarray(params[side]["embedding"]["embedding"])[1:] for side in ("query_tower", "candidate_tower"))
    cosines = (q / np.linalg.norm(q, axis=1, keepdims=True)) @ (c / np.linalg.norm(c, axis=1, keepdims=True)).T
    scores = model.query(ROWS[1:4]) @ model.candidate(ROWS[1:]).T
    np.testing.assert_allclose(scores, cosines / 0.25, rtol=1e-5)
    params["log_temperature"] = jnp.log(jnp.float32(0.5))
    bound = bind(model, params)
    np.testing.assert_allclose(bound.query(ROWS[1:4]) @ bound.candidate(ROWS[1:]).T, cosines / 0.5, rtol=1e-5)
    np.testing.assert_allclose(jnp.linalg.norm(bound.candidate(ROWS[1:]), axis=1), 1, rtol=1e-6)


def test_the_temperature_is_learned_and_its_gradient_is_that_of_the_scores():
    model = TwoTower(id_tower(4, scale=1.0, seed=0), id_tower(5, scale=1.0, seed=1), temperature=0.25)

    def score(params):
        bound = bind(model, params)
        return jnp.sum(bound.query(jnp.array([1])) * bound.candidate(jnp.array([2])))

    gradient = jax.grad(score)(init(model))["log_temperature"]
    assert float(gradient) == pytest.approx(-float(score(init(model))), rel=1e-5)


def test_an_output_of_zero_stays_zero_with_a_temperature_and_its_gradient_is_bounded():
    model = TwoTower(id_tower(4, seed=0), id_tower(5, scale=1.0, seed=1), POPULARITY, temperature=1.0)
    scores = model.query(jnp.array([0])) @ model.candidate(ROWS).T
    assert scores[0].tolist() == POPULARITY.tolist()

    def value(params):
        return jnp.sum(bind(model, params).query(jnp.array([0]))[:, :-1])

    gradient = jax.grad(value)(init(model))["query_tower"]["embedding"]["embedding"][0]
    np.testing.assert_allclose(gradient, 1 / LEAST_NORM, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"num_biases": 5}], ids=str)
def test_norms_are_one_with_a_temperature_and_never_count_the_offset(options):
    towers = id_tower(4, scale=1.0, seed=0), id_tower(5, scale=1.0, seed=1)
    model = TwoTower(*towers, temperature=0.1, **options)
    for embeddings in (model.query(ROWS[1:4]), model.candidate(ROWS[1:])):
        assert model.squared_norms(embeddings).tolist() == [1] * len(embeddings)
    plain = TwoTower(*towers, **options)
    expected = np.sum(np.asarray(plain.query_tower(ROWS[:4])) ** 2, axis=1)
    np.testing.assert_allclose(plain.squared_norms(plain.query(ROWS[:4])), expected, rtol=1e-6)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be positive, got"):
        TwoTower(id_tower(), id_tower(), temperature=temperature)


def test_a_narrow_model_with_a_temperature_and_biases_keeps_its_type():
    rngs = nnx.Rngs(0)
    towers = [IdTower(5, 4, initial_scale=1.0, dtype=jnp.bfloat16, rngs=rngs) for _ in range(2)]
    model = TwoTower(*towers, POPULARITY, num_biases=5, temperature=0.1)
    for embeddings in (model.query(ROWS), model.candidate(ROWS)):
        assert embeddings.dtype == jnp.bfloat16 and model.squared_norms(embeddings).dtype == jnp.float32


def test_training_learns_the_biases_of_popular_candidates_and_a_temperature():
    model = TwoTower(id_tower(5, seed=0), id_tower(5, seed=1), num_biases=5, temperature=1.0)
    rows = np.array([1, 2, 3, 4, 1, 2, 3, 4], np.int32), np.array([1, 1, 1, 1, 2, 2, 3, 4], np.int32)
    examples = Examples(*rows, np.ones(8, np.float32))
    optimizer = create("adagrad", 0.1)
    *_, (state, _) = fit(model, examples, InBatchSoftmax(), optimizer, batch_size=8, epochs=20, seed=0)
    biases = state.params["candidate_bias"]["embedding"][:, 0].tolist()
    assert max(biases) == biases[1] > 0 == biases[0]
    assert state.params["log_temperature"] < 0
