"""The blocked normaliser against its plain form, at the edges of its blocks and types."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.log_partition import KnownPositives, log_partition


def plain(queries, candidates, bias, known_mask, temperature):
    scores = queries @ candidates.T / temperature + bias[None, :]
    scores = jnp.where(known_mask, -jnp.inf, scores)
    return jnp.log(jnp.sum(jnp.exp(scores), axis=1))  # small scores: no maximum to subtract


@settings(deadline=None, max_examples=25)
@given(
    num_queries=st.integers(1, 7),
    num_candidates=st.sampled_from([1, 4]),
    scores_per_block=st.sampled_from([1, 5, 9, 1000]),
    seed=st.integers(0, 1000),
)
def test_blocks_change_neither_the_sums_nor_their_gradients(num_queries, num_candidates, scores_per_block, seed):
    rng = np.random.default_rng(seed)
    queries, candidates = (
        jnp.asarray(rng.uniform(-1, 1, (n, 3)).astype(np.float32)) for n in (num_queries, num_candidates)
    )
    bias = jnp.asarray(rng.choice([-1.0, 0.0, 2.0], num_candidates).astype(np.float32))
    mask = rng.random((num_queries, num_candidates)) < 0.4
    mask[:, 0] = False
    lists = jnp.asarray(np.sort(np.where(mask, np.arange(num_candidates), 99), axis=1).astype(np.int32))
    known = KnownPositives(lists, jnp.arange(num_candidates))
    cotangents = jnp.asarray(rng.normal(size=num_queries).astype(np.float32))

    def blocked(queries, candidates):
        return log_partition(queries, candidates, bias, known, temperature=0.5, scores_per_block=scores_per_block)

    found, pull_back = jax.vjp(jax.jit(blocked), queries, candidates)
    expected, pull_back_plain = jax.vjp(lambda q, c: plain(q, c, bias, mask, 0.5), queries, candidates)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    for ours, theirs in zip(pull_back(cotangents), pull_back_plain(cotangents), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_query_without_candidates_has_an_empty_sum_and_no_gradient():
    known = KnownPositives(jnp.array([[0, 1], [1, 99]]), jnp.arange(2))

    def second(queries):
        return log_partition(queries, jnp.ones((2, 2)), jnp.zeros(2), known, scores_per_block=2)

    totals, pull_back = jax.vjp(second, jnp.ones((2, 2)))
    assert totals[0] == -jnp.inf and totals[1] == pytest.approx(2.0)
    assert pull_back(jnp.ones(2))[0].tolist() == [[0.0, 0.0], [1.0, 1.0]]


def test_large_scores_do_not_overflow():
    totals = log_partition(jnp.full((3, 1), 1000.0), jnp.array([[1.0], [-1.0]]), jnp.zeros(2), scores_per_block=2)
    assert totals.tolist() == [1000.0, 1000.0, 1000.0]


def test_narrow_embeddings_are_accumulated_in_float32():
    queries, candidates = jnp.ones((2, 512), jnp.bfloat16), jnp.full((3, 512), 0.01, jnp.bfloat16)

    def total(queries, candidates):
        return jnp.sum(log_partition(queries, candidates, jnp.zeros(3), scores_per_block=3))

    value, gradients = jax.value_and_grad(total, (0, 1))(queries, candidates)
    exact = 2 * (512 * float(candidates[0, 0]) + np.log(3))
    assert value.dtype == jnp.float32 and value == pytest.approx(exact, rel=1e-5)  # bfloat16 has 3 digits
    assert [gradient.dtype for gradient in gradients] == [jnp.bfloat16, jnp.bfloat16]


def test_memory_does_not_grow_with_the_square_of_the_batch():
    def temporary_bytes(batch):
        embeddings = jax.ShapeDtypeStruct((batch, 8), jnp.float32)

        def total(queries, candidates):
            return jnp.sum(log_partition(queries, candidates, jnp.zeros(batch), scores_per_block=2**16))

        compiled = jax.jit(jax.grad(total, (0, 1))).lower(embeddings, embeddings).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert temporary_bytes(8192) < 6 * temporary_bytes(2048)
    assert temporary_bytes(8192) < 8192 * 8192 * 4 / 50
