import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from index_cases import assert_same, reference

from retrieval.common.lists import Lists
from retrieval.index import ExactIndex, Searcher, Subset
from retrieval.index.exact import scan, scoring

integers = st.integers(-3, 3).map(float)  # inner products are exact, and often tie
numbers = st.floats(-1e3, 1e3, width=32)


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(1, 60), st.integers(1, 5), st.integers(0, 5), st.integers(1, 70), st.booleans())
def test_exact_search_is_a_sort_of_all_inner_products_bit_for_bit(data, n, d, num_queries, k, are_integers):
    elements = integers if are_integers else numbers
    embeddings = data.draw(hnp.arrays(np.float32, (n, d), elements=elements))
    queries = data.draw(hnp.arrays(np.float32, (num_queries, d), elements=elements))
    lists = st.lists(st.integers(0, n - 1), max_size=2 * n)
    excluded = data.draw(st.none() | st.lists(lists, min_size=num_queries, max_size=num_queries))
    allowed = data.draw(st.none() | hnp.arrays(bool, n))
    answer = ExactIndex.build(embeddings).search(queries, k, excluded, allowed)
    assert_same(answer, reference(embeddings, queries, k, excluded, allowed))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(scan, "_CANDIDATES", 70)
    monkeypatch.setattr(scan, "_SCORES", 70 * 3)
    monkeypatch.setattr(scan, "_CHUNK", 4)
    monkeypatch.setattr(scan, "_FEW", 0)
    monkeypatch.setattr(scoring, "_GATHERED", 16)


@pytest.mark.parametrize("scale", [1e-18, 1.0, 1e15])
@pytest.mark.parametrize("k", [1, 5, 30, 400])
def test_blocks_of_candidates_and_of_queries_change_nothing(small_blocks, k, scale):
    rng = np.random.default_rng(k)
    embeddings = rng.standard_normal((333, 8)).astype(np.float32) * np.float32(scale)
    embeddings[100:200] = embeddings[:100]  # every one of these ties with another, some in another block
    queries = rng.standard_normal((10, 8)).astype(np.float32)
    excluded = [rng.integers(0, 333, 30 * query) for query in range(10)]
    allowed = rng.random(333) < 0.7
    index = ExactIndex.build(embeddings)
    for lists in (None, excluded):
        for mask in (None, allowed):
            assert_same(index.search(queries, k, lists, mask), reference(embeddings, queries, k, lists, mask))


def test_vectors_too_short_to_be_found_are_not_looked_at(small_blocks, monkeypatch):
    rng = np.random.default_rng(0)
    embeddings = (rng.standard_normal((2000, 8)) * rng.lognormal(0, 1, (2000, 1))).astype(np.float32)
    embeddings[1000:] = embeddings[:1000]
    queries, allowed = rng.standard_normal((9, 8)).astype(np.float32), rng.random(2000) < 0.9
    excluded = [rng.integers(0, 2000, 100 * (query % 3)) for query in range(9)]
    looked_at = []
    products = scan._products
    monkeypatch.setattr(scan, "_products", lambda q, v: looked_at.append(q.size * len(v)) or products(q, v))
    for lists in (None, excluded):
        answer = ExactIndex.build(embeddings).search(queries, 5, lists, allowed)
        assert_same(answer, reference(embeddings, queries, 5, lists, allowed))
    assert sum(looked_at) < 2 * 9 * 8 * allowed.sum() / 2


@pytest.mark.parametrize(("of_candidates", "of_queries"), [(1e15, 1e-23), (1e-23, 1e15), (1e-23, 1e-23)])
def test_squares_that_underflow_hide_no_doubt(small_blocks, of_candidates, of_queries):
    rng = np.random.default_rng(0)
    base = rng.standard_normal(32)
    embeddings = ((base + 1e-6 * rng.standard_normal((300, 32))) * of_candidates).astype(np.float32)  # nearly the same
    embeddings[::3] *= np.float32(0.5)
    queries = (rng.standard_normal((9, 32)) * of_queries).astype(np.float32)
    for mask in (None, rng.random(300) < 0.8):
        answer = ExactIndex.build(embeddings).search(queries, 7, None, mask)
        assert_same(answer, reference(embeddings, queries, 7, None, mask))


@pytest.mark.parametrize("num_queries", [1, 40])
@pytest.mark.parametrize("left", [None, 0.7])
def test_scores_that_differ_by_less_than_a_matrix_product_rounds_are_in_their_order(num_queries, left):
    rng = np.random.default_rng(0)
    embeddings = (rng.standard_normal(96) + 1e-7 * rng.standard_normal((2000, 96))).astype(np.float32)
    queries = rng.standard_normal((num_queries, 96)).astype(np.float32)
    mask = None if left is None else rng.random(2000) < left
    answer = ExactIndex.build(embeddings).search(queries, 10, None, mask)
    assert_same(answer, reference(embeddings, queries, 10, None, mask))


@pytest.mark.parametrize("num_queries", [1, 2, 150])
@pytest.mark.parametrize("size", [1, 9, 10, 11, 200, 1500])
def test_queries_that_tie_with_all_stand_beside_those_that_do_not(size, num_queries):
    rng = np.random.default_rng(size)
    embeddings = rng.integers(-2, 3, (1500, 6)).astype(np.float32)
    queries = rng.standard_normal((num_queries, 6)).astype(np.float32)
    queries[::4] = 0
    queries[1::4] = np.round(queries[1::4])
    mask = np.zeros(1500, bool)
    mask[rng.permutation(1500)[:size]] = True
    excluded = [rng.integers(0, 1500, 40 * (query % 3)) for query in range(num_queries)]
    for lists in (None, excluded):
        answer = ExactIndex.build(embeddings).search(queries, 10, lists, mask)
        assert_same(answer, reference(embeddings, queries, 10, lists, mask))


def test_equal_vectors_tie_whatever_the_rounding_of_a_matrix_product(small_blocks):
    rng = np.random.default_rng(0)
    vector, queries = rng.standard_normal(64), rng.standard_normal((7, 64)).astype(np.float32)
    scores, positions = ExactIndex.build(np.tile(vector, (500, 1))).search(queries, 9)
    assert (positions == np.arange(9)).all() and (scores == scores[:, :1]).all()


@pytest.mark.parametrize("left", [None, 0.3, 0.005])
def test_an_answer_depends_on_its_query_alone(left):
    rng = np.random.default_rng(1)
    index = ExactIndex.build(rng.standard_normal((3000, 33)))
    queries = rng.standard_normal((1024, 33)).astype(np.float32)
    allowed = None if left is None else Subset(rng.random(3000) < left)
    together = index.search(queries, 20, None, allowed)
    some = [*range(40), *range(1000, 1024)]
    for size in (1, 2, 7):
        for start in range(0, len(some), size):
            own = some[start : start + size]
            answer = index.search(queries[own], 20, None, allowed)
            assert_same(answer, (together[0][own], together[1][own]))


def test_all_excluded_all_filtered_and_one_left():
    index = ExactIndex.build(np.eye(3))
    nothing = ([[-np.inf] * 2], [[-1, -1]])
    for answer in (index.search([[1, 2, 3]], 2, [[0, 1, 2, 2]]), index.search([[1, 2, 3]], 2, None, np.zeros(3, bool))):
        assert (answer[0].tolist(), answer[1].tolist()) == nothing
    scores, positions = index.search([[1, 2, 3]], 2, Lists.from_sequences([[2]]), np.array([True, False, True]))
    assert (scores.tolist(), positions.tolist()) == ([[1, -np.inf]], [[0, -1]])


def test_a_subset_keeps_what_it_gathered_for_its_corpus_alone():
    rng = np.random.default_rng(2)
    first, second = (rng.standard_normal((40, 4)).astype(np.float32) for _ in range(2))
    subset = Subset(rng.random(40) < 0.5)
    for embeddings in (first, second, first):
        index = ExactIndex.build(embeddings)
        assert not subset.has_gathered(index.embeddings)
        assert_same(index.search(first[:3], 5, None, subset), reference(embeddings, first[:3], 5, None, subset.mask))
        assert subset.has_gathered(index.embeddings)


@pytest.mark.parametrize("allowed", [np.ones(2, bool), Subset(np.ones(4, bool))])
def test_what_is_no_mask_of_the_corpus_is_refused(allowed):
    with pytest.raises(ValueError, match=r"allowed must be booleans of shape \[3\], got"):
        ExactIndex.build(np.eye(3)).search(np.eye(3), 1, None, allowed)


def test_lists_of_positions_beyond_the_corpus_are_refused():
    with pytest.raises(ValueError, match=r"excluded\[1\] .* got 3"):
        ExactIndex.build(np.eye(3)).search(np.eye(3)[:2], 1, Lists.from_sequences([[0], [2, 3]]))


def test_it_is_a_searcher_and_is_rebuilt_over_other_vectors():
    index = ExactIndex.build(np.eye(3))
    assert isinstance(index, Searcher)
    assert index.rebuilt(np.eye(5)).search(np.eye(5)[4:], 1)[1].tolist() == [[4]]
