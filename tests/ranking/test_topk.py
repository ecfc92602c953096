"""The exact top-k is a stable sort of all scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from retrieval.common.lists import Lists
from retrieval.ranking import blocks as scoring
from retrieval.ranking import topk
from retrieval.ranking.blocks import check_embeddings
from retrieval.ranking.topk import top_k

SMALL_INTEGERS = st.integers(-2, 2).map(float)  # dot products are exact, and often tie


def embeddings(*shape):
    return hnp.arrays(np.float32, shape, elements=SMALL_INTEGERS)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def sort_all(queries, candidates, k, excluded):
    """Sorts what is not excluded, by score and then by row."""
    scores = np.asarray(queries, np.float64) @ np.asarray(candidates, np.float64).T
    best_scores, best_rows = np.full((len(scores), k), -np.inf), np.full((len(scores), k), -1)
    for query, left_out in enumerate(excluded):
        order = np.argsort(-scores[query], kind="stable")
        rows = order[~np.isin(order, left_out)][:k]
        best_rows[query, : len(rows)], best_scores[query, : len(rows)] = rows, scores[query, rows]
    return best_scores, best_rows


def assert_sorted_like_all(queries, candidates, k, excluded=None):
    scores, rows = top_k(queries, candidates, k, excluded)
    expected = sort_all(queries, candidates, k, [[]] * len(queries) if excluded is None else excluded)
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_array_equal(scores, expected[0])


@pytest.mark.parametrize(("num_queries", "num_candidates", "dimension"), [(4, 7, 2), (1, 7, 1), (4, 1, 2)])
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_best_come_by_score_and_equal_scores_by_row(num_queries, num_candidates, dimension, data):
    queries = data.draw(embeddings(num_queries, dimension))
    candidates = data.draw(embeddings(num_candidates, dimension))
    assert_sorted_like_all(queries, candidates, data.draw(st.sampled_from([1, 3, 7, 9])))


@settings(max_examples=100, deadline=None)
@given(st.data(), embeddings(4, 2), embeddings(7, 2), st.sampled_from([2, 9]), st.sampled_from([1, 6, 20]))
def test_excluded_candidates_never_come_back(data, queries, candidates, k, count):
    owners = data.draw(hnp.arrays(np.int32, count, elements=st.integers(0, 3)))  # some lists get none
    rows = data.draw(hnp.arrays(np.int32, count, elements=st.integers(0, 6)))  # some rows come twice
    assert_sorted_like_all(queries, candidates, k, Lists.from_pairs(owners, rows, 4))


@pytest.mark.parametrize(
    ("queries_per_block", "candidates_per_block", "chunk"), [(1, 2, 2), (2, 3, 1), (4, 4, 3), (8, 7, 2)]
)
@settings(max_examples=40, deadline=None)
@given(st.data(), embeddings(5, 2), embeddings(7, 2), st.sampled_from([1, 3, 9]))
def test_blocks_change_nothing(queries_per_block, candidates_per_block, chunk, data, queries, candidates, k):
    lengths = [3, 0, 7, 1, 4]
    rows = [data.draw(st.lists(st.integers(0, 6), min_size=n, max_size=n)) for n in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "QUERIES_PER_BLOCK", queries_per_block)
        patch.setattr(scoring, "CANDIDATES_PER_BLOCK", candidates_per_block)
        patch.setattr(scoring, "TILE", 1)
        patch.setattr(topk, "CHUNK", chunk)
        patch.setattr(topk, "LEAST_CHUNKS", 1)
        patch.setattr(topk, "CHUNKS_AT_A_TIME", 2)
        assert_sorted_like_all(queries, candidates, k, Lists.from_sequences(rows))
        assert_sorted_like_all(queries, candidates, k)


def test_nothing_is_left_when_all_are_excluded():
    all_of_them = Lists.from_sequences([[2, 0, 1, 0], []])  # of the first query, one twice
    scores, rows = top_k(np.eye(2, 3, dtype=np.float32), np.eye(3, dtype=np.float32), 2, all_of_them)
    assert rows.tolist() == [[-1, -1], [1, 0]]
    assert scores.tolist() == [[-np.inf, -np.inf], [1, 0]]


def test_k_beyond_the_corpus_is_padded_at_the_end():
    scores, rows = top_k(np.ones((1, 1), np.float32), np.array([[2], [5]], np.float32), 4)
    assert rows.tolist() == [[1, 0, -1, -1]]
    assert scores.tolist() == [[5, 2, -np.inf, -np.inf]]


def test_an_empty_corpus_gives_padding_only():
    scores, rows = top_k(np.ones((2, 3), np.float32), np.ones((0, 3), np.float32), 1)
    assert rows.tolist() == [[-1], [-1]]
    assert scores.tolist() == [[-np.inf], [-np.inf]]


def test_no_queries_get_no_answers():
    scores, rows = top_k(np.ones((0, 3), np.float32), np.ones((4, 3), np.float32), 2, Lists.empty(0))
    assert scores.shape == rows.shape == (0, 2)


def test_zeros_of_either_sign_are_equal():
    candidates = np.array([[-1], [1], [-1], [1]], np.float32)  # 0 times -1 is -0.0
    assert top_k(np.zeros((1, 1), np.float32), candidates, 4)[1].tolist() == [[0, 1, 2, 3]]


def test_copies_of_a_candidate_score_alike_and_stand_side_by_side():
    once = random(101, 33)
    _, rows = top_k(random(20, 33, seed=1), np.concatenate([once, once]), 202)
    np.testing.assert_array_equal(rows[:, 1::2], rows[:, ::2] + 101)


def test_scores_are_the_dot_products_in_full_precision():
    queries, candidates = random(9, 50), random(40, 50, seed=1)
    scores, rows = top_k(queries, candidates, 40, Lists.from_sequences([[1, 2]] * 9))
    exact = np.einsum("qd,qkd->qk", queries.astype(np.float64), candidates[rows].astype(np.float64))
    np.testing.assert_allclose(scores[:, :38], exact[:, :38], rtol=0, atol=1e-5)


def test_jax_arrays_give_what_numpy_arrays_give():
    queries, candidates = random(3, 4), random(8, 4, seed=1)
    expected = top_k(queries, candidates, 5)
    for got, want in zip(top_k(jnp.asarray(queries), jnp.asarray(candidates), 5), expected, strict=True):
        assert isinstance(got, np.ndarray)
        np.testing.assert_array_equal(got, want)


def test_all_blocks_have_one_shape(monkeypatch):
    blocks, original = [], topk._score_block

    def recorded(buffer, queries, candidates, pairs, allowed, block, size, chunk):
        blocks.append((len(queries), size))
        return original(buffer, queries, candidates, pairs, allowed, block, size, chunk)

    monkeypatch.setattr(topk, "_score_block", recorded)
    monkeypatch.setattr(scoring, "QUERIES_PER_BLOCK", 4)
    monkeypatch.setattr(scoring, "CANDIDATES_PER_BLOCK", 10)
    monkeypatch.setattr(scoring, "TILE", 5)
    top_k(random(9, 2), random(27, 2), 1)
    assert blocks == [(4, 10)] * 9  # one shape, hence one program


@pytest.mark.parametrize("num_candidates", [1000, 1_000_000])
def test_a_block_takes_no_more_memory_than_a_few_copies_of_its_scores(num_candidates):
    size, block = scoring.block_shape(10**9, num_candidates)
    queries, candidates = (jax.ShapeDtypeStruct((length, 8), jnp.float32) for length in (size, num_candidates))
    ints = [jax.ShapeDtypeStruct((n,), jnp.int32) for n in (2048, 2048, 1 + scoring.num_blocks(num_candidates, block))]
    buffer = jax.ShapeDtypeStruct((size, -(-block // topk.CHUNK), topk.CHUNK), jnp.float32)
    arguments = buffer, queries, candidates, scoring.Pairs(*ints), None, jax.ShapeDtypeStruct((), jnp.int32)
    lowered = topk._score_block.lower(*arguments, block, topk.CHUNK)
    scores = 4 * scoring.QUERIES_PER_BLOCK * scoring.CANDIDATES_PER_BLOCK
    assert lowered.compile().memory_analysis().temp_size_in_bytes < 2 * scores


def allow_lists(mask):
    return Lists.from_sequences([np.flatnonzero(of_query) for of_query in mask])


@pytest.mark.parametrize("kind", ["mask", "masks", "lists"])
@pytest.mark.parametrize("candidates_per_block", [3, 8])
@settings(max_examples=30, deadline=None)
@given(st.data(), embeddings(5, 2), embeddings(7, 2))
def test_only_allowed_candidates_are_chosen_from(kind, candidates_per_block, data, queries, candidates):
    shape = (7,) if kind == "mask" else (5, 7)
    mask = data.draw(hnp.arrays(bool, shape))
    allowed = allow_lists(mask) if kind == "lists" else mask
    excluded = Lists.from_sequences([[1], [], [6, 2], [], [0]])
    masks = np.broadcast_to(mask, (5, 7))
    left_out = [[*np.flatnonzero(~own), *also] for own, also in zip(masks, excluded, strict=True)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "QUERIES_PER_BLOCK", 2)
        patch.setattr(scoring, "CANDIDATES_PER_BLOCK", candidates_per_block)
        patch.setattr(scoring, "TILE", 1)
        scores, rows = top_k(queries, candidates, 4, excluded, allowed)
    expected = sort_all(queries, candidates, 4, left_out)
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_array_equal(scores, expected[0])


def test_a_mask_of_another_shape_is_named():
    with pytest.raises(ValueError, match=r"allowed must be \[4\] or \[2, 4\], got \(2,\)"):
        top_k(np.ones((2, 3), np.float32), np.ones((4, 3), np.float32), 1, allowed=np.ones(2, bool))


def test_an_allowed_row_outside_the_corpus_is_named():
    with pytest.raises(ValueError, match=r"rows must be in \[0, 4\), got 9 to 9"):
        top_k(np.ones((1, 3), np.float32), np.ones((4, 3), np.float32), 1, allowed=Lists.from_sequences([[9]]))


@pytest.mark.parametrize("order", ["ascending", "descending", "equal", "random"])
@pytest.mark.parametrize("k", [1, 5, 33, 400])
def test_any_order_of_the_corpus_gives_the_sorted_one(monkeypatch, order, k):
    """Ascending scores make every block better than all before it; equal ones never exceed what is found."""
    monkeypatch.setattr(scoring, "CANDIDATES_PER_BLOCK", 64)
    monkeypatch.setattr(scoring, "TILE", 8)
    monkeypatch.setattr(topk, "CHUNK", 4)
    monkeypatch.setattr(topk, "LEAST_CHUNKS", 1)
    monkeypatch.setattr(topk, "CHUNKS_AT_A_TIME", 16)
    values = np.random.default_rng(0).integers(-50, 50, 300)
    candidates = {"ascending": np.sort(values), "descending": np.sort(values)[::-1], "equal": 0 * values}
    candidates = candidates.get(order, values).astype(np.float32)[:, None]
    assert_sorted_like_all(np.array([[1], [2], [-1], [0]], np.float32), candidates, k)


def test_a_score_that_is_no_number_comes_first():
    candidates = np.array([[1], [np.nan], [3]], np.float32)
    assert top_k(np.ones((1, 1), np.float32), candidates, 2)[1].tolist() == [[1, 2]]


def test_blocks_of_full_size_give_what_a_sort_gives():
    queries, candidates = (10 * random(3, 4)).round(), (10 * random(20_000, 4, seed=1)).round()  # exact, many ties
    assert_sorted_like_all(queries, candidates, 150, Lists.from_sequences([[0, 19_999], [], [8000]]))


@pytest.mark.parametrize("k", [0, -1])
def test_k_must_be_positive(k):
    with pytest.raises(ValueError, match=f"k must be at least 1, got {k}"):
        top_k(np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), k)


@pytest.mark.parametrize(("queries", "candidates"), [((2,), (3, 2)), ((2, 2), (2,)), ((2, 3), (3, 2))])
def test_embeddings_of_other_shapes_are_named(queries, candidates):
    with pytest.raises(ValueError, match="queries .* and candidates .* needed") as error:
        check_embeddings(np.ones(queries), np.ones(candidates))
    assert f"got {queries}, {candidates}" in str(error.value)


@pytest.mark.parametrize("row", [-1, 3])
def test_an_excluded_row_outside_the_corpus_is_named(row):
    with pytest.raises(ValueError, match=rf"rows must be in \[0, 3\), got .*{row}"):
        top_k(np.ones((1, 2), np.float32), np.ones((3, 2), np.float32), 1, Lists.from_sequences([[1, row]]))


def test_every_query_needs_its_own_exclusions():
    with pytest.raises(ValueError, match="got 1 lists for 2 queries"):
        top_k(np.ones((2, 2), np.float32), np.ones((3, 2), np.float32), 1, Lists.empty(1))


def test_k_may_exceed_a_block_of_the_corpus():
    rng = np.random.default_rng(0)
    queries, candidates = (rng.standard_normal((n, 2)).astype(np.float32) for n in (2, 20_000))
    scores, rows = top_k(queries, candidates, 18_000)
    expected = np.argsort(-np.asarray(scoring.dot(*map(jnp.asarray, (queries, candidates)))), axis=1, kind="stable")[
        :, :18_000
    ]
    np.testing.assert_array_equal(rows, expected)
    assert np.all(np.diff(scores, axis=1) <= 0)
