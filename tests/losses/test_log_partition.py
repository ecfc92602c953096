"""The blocked normaliser against its plain form, at the edges of its blocks and types."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.common.lists import Lists
from retrieval.losses.log_partition import log_partition
from retrieval.losses.row_sets import KnownPositives, RowSets


def plain(queries, candidates, bias, known_mask, temperature):
    scores = queries @ candidates.T / temperature + bias[None, :]
    scores = jnp.where(known_mask, -jnp.inf, scores)
    return jnp.log(jnp.sum(jnp.exp(scores), axis=1))  # small scores: no maximum to subtract


@pytest.mark.slow
@settings(deadline=None, max_examples=10)
@given(
    num_queries=st.sampled_from([1, 7]),
    num_candidates=st.sampled_from([1, 4]),
    scores_per_block=st.sampled_from([1, 9, 1000]),
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
    sets = RowSets.from_lists(Lists.from_pairs(*np.nonzero(mask), num_queries))
    known = KnownPositives(sets, jnp.arange(num_candidates))
    cotangents = jnp.asarray(rng.normal(size=num_queries).astype(np.float32))

    def blocked(queries, candidates):
        return log_partition(queries, candidates, bias, known, temperature=0.5, scores_per_block=scores_per_block)

    @functools.partial(jax.jit, static_argnums=0)  # one compilation of both
    def sums_and_gradients(form, queries, candidates):
        sums, pull_back = jax.vjp(form, queries, candidates)
        return sums, *pull_back(cotangents)

    found = sums_and_gradients(blocked, queries, candidates)
    expected = sums_and_gradients(lambda q, c: plain(q, c, bias, mask, 0.5), queries, candidates)
    for actual, desired in zip(found, expected, strict=True):
        np.testing.assert_allclose(actual, desired, rtol=1e-4, atol=1e-5)


def test_a_query_without_candidates_has_an_empty_sum_and_no_gradient():
    known = KnownPositives(RowSets.from_lists(Lists.from_sequences([[0, 1], [1]])), jnp.arange(2))

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


@settings(deadline=None, max_examples=12)
@given(st.sets(st.tuples(st.integers(0, 3), st.integers(0, 6))))
def test_sets_contain_exactly_the_pairs_they_were_made_from(pairs):
    owners, rows = np.array(sorted(pairs, key=hash), np.int64).reshape(-1, 2).T
    sets = RowSets.from_lists(Lists.from_pairs(owners, rows, 4))
    found = jax.jit(RowSets.contain)(sets, jnp.arange(4)[:, None], jnp.arange(7)[None, :])
    assert set(zip(*np.nonzero(np.asarray(found)), strict=True)) == pairs


def test_a_row_is_found_whatever_the_order_of_the_candidates_and_the_sets_that_are_taken():
    sets = RowSets.from_lists(Lists.from_sequences([[9, 2, 5, 2], [5], []])).take(jnp.array([2, 0, 1]))
    found = sets.contain(jnp.arange(3)[:, None], jnp.array([9, 1, 5, 2, 5, 10])[None, :])
    assert found.astype(int).tolist() == [[0, 0, 0, 0, 0, 0], [1, 0, 1, 1, 1, 0], [0, 0, 1, 0, 1, 0]]
