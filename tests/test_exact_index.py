import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from index_cases import assert_same, reference

from retrieval.index import ExactIndex, Searcher, Subset, scan
from retrieval.lists import Lists

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
    monkeypatch.setattr(scan, "_GATHERED", 16)


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


def test_equal_vectors_tie_whatever_the_rounding_of_a_matrix_product(small_blocks):
    rng = np.random.default_rng(0)
    vector, queries = rng.standard_normal(64), rng.standard_normal((7, 64)).astype(np.float32)
    scores, positions = ExactIndex.build(np.tile(vector, (500, 1))).search(queries, 9)
    assert (positions == np.arange(9)).all() and (scores == scores[:, :1]).all()


def test_an_answer_depends_on_its_query_alone():
    rng = np.random.default_rng(1)
    index = ExactIndex.build(rng.standard_normal((3000, 33)))
    queries = rng.standard_normal((50, 33)).astype(np.float32)
    together = index.search(queries, 20)
    for part in range(2):
        alone = [index.search(queries[i : i + 1], 20)[part] for i in range(50)]
        np.testing.assert_array_equal(together[part], np.concatenate(alone))


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
