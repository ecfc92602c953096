"""One specification for both exact searches: `top_k` in JAX and `ExactIndex` in NumPy, against a plain stable sort.

Inputs are small integers times powers of two, so that every dot product is exact and equal scores are frequent.
"""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retrieval.common.lists import Lists
from retrieval.index import ExactIndex
from retrieval.index.exact import scan
from retrieval.ranking import blocks, topk

LEAST_NORMAL = np.finfo(np.float32).tiny


def by_top_k(queries, candidates, k, excluded):
    return topk.top_k(queries, candidates, k, excluded)


def by_exact_index(queries, candidates, k, excluded):
    return ExactIndex.build(candidates).search(queries, k=k, excluded=excluded)


SEARCHES = {"top_k": by_top_k, "ExactIndex": by_exact_index}
both = pytest.mark.parametrize("search", SEARCHES.values(), ids=SEARCHES)


def sort_all(queries, candidates, k, excluded=None):
    """Sorts the candidates of each query one by one: descending scores, equal scores by ascending row."""
    all_scores = np.asarray(queries, np.float64) @ np.asarray(candidates, np.float64).T
    scores, rows = np.full((len(queries), k), -np.inf), np.full((len(queries), k), -1)
    for query in range(len(queries)):
        left_out = set() if excluded is None else set(excluded[query].tolist())
        kept = [row for row in range(len(candidates)) if row not in left_out]
        best = sorted(kept, key=lambda row: (-all_scores[query, row], row))[:k]
        rows[query, : len(best)], scores[query, : len(best)] = best, all_scores[query, best]
    return scores, rows


def assert_sorted(search, queries, candidates, k, excluded=None):
    scores, rows = search(queries, candidates, k, excluded)
    expected = sort_all(queries, candidates, k, excluded)
    if search is by_exact_index:  # an index answers a query of zeros with padding: nothing is best
        for answer, padding in zip(expected, (-np.inf, -1), strict=True):
            answer[~np.asarray(queries).any(axis=1)] = padding
    np.testing.assert_array_equal(rows, expected[1])
    np.testing.assert_array_equal(scores, expected[0])
    assert scores.dtype == np.float32 and rows.dtype == np.int32


@pytest.fixture
def small_blocks(monkeypatch):
    """Makes blocks, chunks and pieces so small that few candidates fill several of each."""
    for module, name, value in (
        *((blocks, "CANDIDATES_PER_BLOCK", 64), (blocks, "QUERIES_PER_BLOCK", 4), (blocks, "TILE", 8)),
        *((topk, "CHUNK", 4), (topk, "LEAST_CHUNKS", 1), (topk, "CHUNKS_AT_A_TIME", 8)),
        *((scan, "_SCORES", 256), (scan, "_CANDIDATES", 64), (scan, "_FEW", 16), (scan, "_CHUNK", 4)),
    ):
        monkeypatch.setattr(module, name, value)


@st.composite
def worlds(draw):
    """Draws queries, candidates, k and exclusions; many candidates are copies of others."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    num_queries, num_candidates = draw(st.integers(1, 9)), draw(st.integers(1, 300))
    dimension, spread = draw(st.integers(1, 5)), draw(st.integers(0, 3))
    queries, candidates = (rng.integers(-spread, spread + 1, (n, dimension)) for n in (num_queries, num_candidates))
    candidates[rng.integers(0, num_candidates, num_candidates // 2)] = candidates[0]
    scale = np.float32(2.0 ** draw(st.integers(-30, 30)))
    count = draw(st.sampled_from([0, 1, 40, 900]))
    owners, rows = rng.integers(0, num_queries, count), rng.integers(0, num_candidates, count)
    excluded = draw(st.sampled_from([None, Lists.from_pairs(owners, rows, num_queries)]))
    return (
        queries.astype(np.float32),
        candidates.astype(np.float32) * scale,
        draw(st.integers(1, num_candidates + 3)),
        excluded,
    )


@both
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds())
def test_any_search_is_a_stable_sort(search, small_blocks, world):
    assert_sorted(search, *world)


@both
@pytest.mark.parametrize(
    "order", ["ascending", "descending", "equal", "saw", "last of each chunk", "one in each chunk", "one high"]
)
@pytest.mark.parametrize("k", [1, 3, 16, 17, 64, 65, 299, 300, 310])
def test_adversarial_orders_of_the_corpus(search, small_blocks, order, k):
    """Orders that beat a threshold in every block, tie with it, or hide the best at the edge of a chunk or block."""
    rows = np.arange(300)
    scores = {
        "ascending": rows,
        "descending": -rows,
        "equal": 0 * rows + 7,
        "saw": rows % 5,
        "last of each chunk": np.where(rows % 4 == 3, 9, rows % 3),
        "one in each chunk": np.where(rows % 4 == 1, 400 - rows, 0),
        "one high": np.where(rows == 299, 9, 1),
    }[order]
    queries = np.array([[1], [-1], [0], [2], [-2]], np.float32)
    assert_sorted(search, queries, scores.astype(np.float32)[:, None], k)


@both
def test_zeros_of_either_sign_tie(search, small_blocks):
    candidates = np.tile(np.float32([[-1], [1], [0], [-0.0]]), (40, 1))
    queries = np.float32([[0], [-0.0]])
    assert_sorted(search, queries, candidates, 100)
    if search is by_top_k:
        assert search(queries, candidates, 5, None)[1].tolist() == [[0, 1, 2, 3, 4]] * 2


@both
def test_denormal_scores_rank_below_all_normal_ones(search):
    candidates = np.float32([[0], [2**-100], [-(2**-100)], [2**-99], [1]])
    scores, rows = search(np.float32([[2**-40]]), candidates, 5, None)
    exact = np.float32([2**-40, 2**-139, 2**-140, 0, -(2**-140)])
    if search is by_top_k:  # XLA flushes denormal products to zero, and zeros tie
        exact, expected = np.where(np.abs(exact) < LEAST_NORMAL, 0, exact), [4, 0, 1, 2, 3]
    else:
        expected = [4, 3, 1, 0, 2]
    assert rows.tolist() == [expected]
    np.testing.assert_array_equal(scores[0], exact)


@both
def test_the_largest_scores_do_not_disturb_the_order(search):
    large = np.float32(2.0**60)
    candidates = np.float32([[large], [-large], [0], [large], [1]])
    assert_sorted(search, np.float32([[large], [1], [-1]]), candidates, 5)


@both
def test_excluded_candidates_leave_padding_where_too_few_remain(search):
    candidates = np.float32([[3], [2], [2], [1]])
    excluded = Lists.from_sequences([[0, 1, 2, 3, 3], [2, 0], []])
    scores, rows = search(np.ones((3, 1), np.float32), candidates, 6, excluded)
    assert rows.tolist() == [[-1] * 6, [1, 3, -1, -1, -1, -1], [0, 1, 2, 3, -1, -1]]
    assert np.isneginf(scores[rows < 0]).all() and np.isfinite(scores[rows >= 0]).all()


@both
def test_a_batch_gives_each_query_what_it_gets_alone(search, small_blocks):
    rng = np.random.default_rng(0)
    queries, candidates = (rng.integers(-3, 4, (n, 3)).astype(np.float32) for n in (11, 200))
    together = search(queries, candidates, 20, None)
    for i in range(11):
        alone = search(queries[i : i + 1], candidates, 20, None)
        np.testing.assert_array_equal(together[1][i], alone[1][0])
        np.testing.assert_array_equal(together[0][i], alone[0][0])


def test_chunks_gathered_on_another_device_give_the_same(small_blocks, monkeypatch):
    rng = np.random.default_rng(0)
    queries, candidates = (rng.integers(-9, 10, (n, 3)).astype(np.float32) for n in (9, 300))
    monkeypatch.setattr(topk, "_is_on_host", lambda array: False)
    for k in (1, 20):
        assert_sorted(by_top_k, queries, candidates, k)
