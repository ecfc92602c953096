"""Cosine contrastive and BPR: their effects, and the folded forms against one negative after the other."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retrieval import losses
from retrieval.common.lists import Lists
from retrieval.losses.column_sums import column_sums
from retrieval.losses.pairwise import normalized
from retrieval.losses.row_sets import KnownPositives, RowSets

TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}
SIZE = 6  # examples, and rows of the tables of distinct queries and candidates
CONTRASTIVE = {"margin": 0.2, "negative_weight": 3.0}


def plain(name, queries, candidates, q, c, columns, known, weights):
    """Returns the loss from each example's list of negatives, one after the other."""
    total = 0.0
    for i in range(len(q)):
        negatives = [j for j in columns if j != c[i] and not known[q[i], j]]
        if name == "bpr":
            score = [jnp.dot(queries[q[i]], candidates[j]) for j in [c[i], *negatives]]
            of_negatives = [jnp.log1p(jnp.exp(s - score[0])) for s in score[1:]]
            of_positive = 0.0
        else:
            of_pair = [jnp.dot(_unit(queries[q[i]]), _unit(candidates[j])) for j in [c[i], *negatives]]
            of_negatives = [CONTRASTIVE["negative_weight"] * jnp.maximum(s - CONTRASTIVE["margin"], 0) for s in of_pair]
            of_positive, of_negatives = 1 - of_pair[0], of_negatives[1:]
        total += weights[i] * (of_positive + sum(of_negatives) / max(len(of_negatives), 1))
    return total


def _unit(embedding):
    return embedding / jnp.sqrt(jnp.sum(embedding**2))


@functools.partial(jax.jit, static_argnames=("name", "scores_per_block"))
def folded(name, queries, candidates, q, c, counts, known, weights, scores_per_block):
    """Returns the value and the gradients by the embeddings."""
    function = losses.bpr if name == "bpr" else functools.partial(losses.cosine_contrastive, **CONTRASTIVE)

    def value(queries, candidates):
        known_positives = KnownPositives(known, jnp.arange(SIZE))
        options = {"known_positives": known_positives, "weights": weights, "scores_per_block": scores_per_block}
        return function(queries, candidates, q, c, counts, **options)

    return jax.value_and_grad(value, (0, 1))(queries, candidates)


rows = st.integers(0, SIZE - 1)


@pytest.mark.slow
@settings(deadline=None, max_examples=12)
@given(
    q=st.lists(rows, min_size=SIZE, max_size=SIZE),
    c=st.lists(rows, min_size=SIZE, max_size=SIZE),
    columns=st.lists(rows, max_size=8),
    share=st.sampled_from([0.0, 0.3, 1.0]),
    seed=st.integers(0, 100),
)
@example(q=[0] * SIZE, c=[1] * SIZE, columns=[1] * 8, share=0.0, seed=0)  # nothing but the positive
@example(q=[0] * SIZE, c=[1] * SIZE, columns=[1, 1, 2], share=0.0, seed=0)
@example(q=list(range(SIZE)), c=list(range(SIZE)), columns=[], share=0.0, seed=0)
def test_folded_and_in_blocks_they_are_the_mean_over_the_negatives_and_so_are_the_gradients(q, c, columns, share, seed):
    rng = np.random.default_rng(seed)
    queries, candidates = (jnp.asarray(rng.normal(size=(SIZE, 3)).astype(np.float32)) for _ in range(2))
    known = rng.random((SIZE, SIZE)) < share
    sets = RowSets.from_lists(Lists.from_pairs(*np.nonzero(known), SIZE))._replace(rows=jnp.asarray(_padded(known)))
    weights = jnp.asarray(rng.choice([0.0, 0.5, 2.0], SIZE).astype(np.float32))
    counts = jnp.asarray(np.bincount(np.array(columns, int), minlength=SIZE).astype(np.float32))
    indices = jnp.array(q), jnp.array(c)
    for name in ("bpr", "cosine_contrastive"):

        def value(queries, candidates, name=name):
            return jnp.asarray(plain(name, queries, candidates, q, c, columns, known, weights))

        expected = jax.value_and_grad(value, (0, 1))(queries, candidates)
        for scores_per_block in (SIZE * SIZE, 4 * SIZE):
            found = folded(name, queries, candidates, *indices, counts, sets, weights, scores_per_block)
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), found, expected)


def _padded(known):
    """Returns the rows of the sets in an array of one length, so that one program serves all cases."""
    listed = np.nonzero(known)[1]
    return np.concatenate([listed, np.full(SIZE * SIZE + 1 - len(listed), -1)]).astype(np.int32)


def one_example(loss, queries, candidates, counts, **settings):
    indices = jnp.array([0])
    return loss(jnp.asarray(queries), jnp.asarray(candidates), indices, indices, jnp.asarray(counts), **settings)


def test_the_cosine_ignores_norms():
    queries, candidates, counts = np.ones((1, 2), np.float32), np.eye(2, dtype=np.float32), np.array([0.0, 1.0])
    longer = one_example(losses.cosine_contrastive, 5 * queries, 0.1 * candidates, jnp.float32(counts), **CONTRASTIVE)
    assert longer == pytest.approx(1 - 0.5**0.5 + 3 * (0.5**0.5 - 0.2), rel=1e-5)


def test_negatives_below_the_margin_have_no_gradient_and_those_above_do():
    candidates = jnp.array([[1.0, 0.0], [0.1, 1.0], [1.0, 1.0]])

    def loss(candidates):
        return one_example(losses.cosine_contrastive, [[1.0, 0.0]], candidates, [0.0, 1.0, 1.0], **CONTRASTIVE)

    gradient = jax.grad(loss)(candidates)
    assert np.all(gradient[1] == 0) and np.any(gradient[2] != 0)


def test_an_embedding_of_zeros_has_no_cosine_and_no_gradient():
    def loss(queries):
        return one_example(losses.cosine_contrastive, queries, jnp.ones((2, 2)), [0.0, 1.0], **CONTRASTIVE)

    value, gradient = jax.value_and_grad(loss)(jnp.zeros((1, 2)))
    assert value == 1 and np.all(gradient == 0)


def test_narrow_embeddings_are_normalised_in_float32():
    found = normalized(jnp.array([[3.0, 4.0]], jnp.bfloat16))
    assert found.dtype == jnp.float32 and found[0].tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("copies", [0.0, 1.0, 1000.0])
def test_without_a_negative_only_the_positive_counts_however_often_it_is_drawn(copies):
    settings_of = {losses.bpr: {}, losses.cosine_contrastive: CONTRASTIVE}
    for loss, expected in ((losses.bpr, 0.0), (losses.cosine_contrastive, 1 - 0.8)):

        def value(queries, loss=loss):
            return one_example(loss, queries, [[0.8, 0.6]], [copies], **settings_of[loss])

        found, gradient = jax.value_and_grad(value)(jnp.array([[1.0, 0.0]]))
        assert found == pytest.approx(expected, abs=1e-6) and np.all(np.isfinite(gradient))


def test_a_thousand_copies_of_the_positive_do_not_hide_a_negative():
    candidates = np.log(np.array([[3.0], [1.0]], np.float32))
    loss = one_example(losses.bpr, np.ones((1, 1), np.float32), candidates, [1000.0, 1.0])
    assert loss == pytest.approx(np.log(4 / 3), abs=1e-3)  # 10 bits of 24


def test_bpr_moves_the_positive_up_and_the_negatives_down_by_how_wrong_their_order_is():
    candidates = jnp.log(jnp.array([[2.0], [1.0], [6.0]]))

    def loss(candidates):
        return one_example(losses.bpr, [[1.0]], candidates, [0.0, 1.0, 1.0])

    gradient = jax.grad(loss)(candidates).ravel()
    assert gradient.tolist() == pytest.approx([-(1 / 3 + 3 / 4) / 2, 1 / 6, 3 / 8])  # sigmoids of ln 1/2 and of ln 3


def test_more_scores_than_a_block_holds_are_never_held_at_once():
    queries, candidates = jnp.ones((64, 4)), jnp.ones((512, 4))

    def value(queries, candidates):
        sums, _ = column_sums(jax.nn.softplus, queries, candidates, jnp.ones(512), scores_per_block=1024)
        return jnp.sum(sums)

    program = jax.make_jaxpr(jax.grad(value, (0, 1)))(queries, candidates)
    assert "f32[2,512]" in str(program) and "f32[64,512]" not in str(program) and "f32[32,2,512]" not in str(program)
