"""The implicit squared loss against the sum over all pairs that it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval import losses
from retrieval.losses.squared import gramian

NUM_QUERIES, NUM_CANDIDATES, WEIGHT = 4, 5, 0.3


def dense(queries, candidates, q, c, counts, weights):
    """Returns the objective of iALS over all pairs of the queries that have examples and the corpus."""
    scores = queries @ candidates.T  # [U, V]
    observed = jnp.sum(weights * (scores[q, c] - 1) ** 2)
    has_examples = jnp.zeros(len(queries)).at[q].max(jnp.sign(weights))
    return observed + WEIGHT * jnp.sum(has_examples[:, None] * counts[None, :] * scores**2)


@jax.jit
def both(queries, candidates, q, c, counts, weights):
    of_query = jnp.zeros(len(queries)).at[q].add(weights)
    shares = 1 / jnp.where(of_query > 0, of_query, 1)

    def folded(queries, candidates):
        settings = {"unobserved_weight": WEIGHT, "weights": weights}
        return losses.implicit_squared(queries, candidates, q, c, counts, shares, **settings)

    def plain(queries, candidates):
        return dense(queries, candidates, q, c, counts, weights)

    return [jax.value_and_grad(loss, (0, 1))(queries, candidates) for loss in (folded, plain)]


@settings(deadline=None, max_examples=50)
@given(
    q=st.lists(st.integers(0, NUM_QUERIES - 1), min_size=6, max_size=6),
    c=st.lists(st.integers(0, NUM_CANDIDATES - 1), min_size=6, max_size=6),
    seed=st.integers(0, 100),
)
def test_all_examples_at_once_have_the_value_and_the_gradients_of_the_sum_over_all_pairs(q, c, seed):
    rng = np.random.default_rng(seed)
    queries, candidates = (
        jnp.asarray(rng.normal(size=(n, 3)).astype(np.float32)) for n in (NUM_QUERIES, NUM_CANDIDATES)
    )
    weights = jnp.asarray(rng.choice([0.0, 0.5, 2.0], 6).astype(np.float32))
    counts = jnp.asarray(rng.choice([0.0, 1.0, 1.0, 3.0], NUM_CANDIDATES).astype(np.float32))
    found, expected = both(queries, candidates, jnp.array(q), jnp.array(c), counts, weights)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)


def test_no_matrix_of_queries_and_candidates_is_ever_made():
    indices = jnp.arange(50)

    def loss(queries, candidates):
        settings = {"unobserved_weight": WEIGHT}
        return losses.implicit_squared(queries, candidates, indices, indices, jnp.ones(70), jnp.ones(60), **settings)

    program = str(jax.make_jaxpr(jax.grad(loss, (0, 1)))(jnp.ones((60, 3)), jnp.ones((70, 3))))
    assert "f32[3,3]" in program
    assert not any(f"[{n},70]" in program or f"[70,{n}]" in program for n in (50, 60))


def test_narrow_embeddings_are_summed_in_float32():
    many = jnp.full((1000, 1), 0.1, jnp.bfloat16)  # bfloat16 sums stop growing at 2.5
    assert gramian(many, jnp.ones(1000))[0, 0] == pytest.approx(1000 * float(many[0, 0]) ** 2, rel=1e-3)


def test_candidates_outside_of_the_corpus_are_drawn_nowhere():
    def loss(candidates):
        indices, settings = jnp.array([0]), {"unobserved_weight": WEIGHT}
        return losses.implicit_squared(
            jnp.ones((1, 2)), candidates, indices, indices, jnp.array([1.0, 0.0, 1.0]), jnp.ones(1), **settings
        )

    gradient = jax.grad(loss)(jnp.ones((3, 2)))
    assert np.all(gradient[1] == 0) and np.all(gradient[2] > 0)
