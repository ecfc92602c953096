"""Rankings by scores are those by embeddings, and those of a plain sort."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.common.lists import Lists
from retrieval.ranking import blocks, ranking
from retrieval.ranking.ranking import EmbeddingRanker, ScoreRanker


@st.composite
def worlds(draw):
    """Draws scores, relevant and excluded candidates, as plain lists."""
    num_queries, num_candidates = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    few = st.lists(st.integers(-2, 2), min_size=num_candidates, max_size=num_candidates)  # so that many are equal
    rows = st.lists(st.integers(0, num_candidates - 1), max_size=6)
    return [draw(st.lists(of, min_size=num_queries, max_size=num_queries)) for of in (few, rows, rows)]


def in_order(scores, left_out):
    order = np.argsort(-scores, kind="stable").tolist()
    return [candidate for candidate in order if candidate not in left_out]


@settings(max_examples=60, deadline=None)
@given(worlds(), st.integers(1, 12), st.integers(1, 3))
def test_scores_are_ranked_as_by_a_plain_sort(world, k, size):
    scores, (relevant, excluded) = np.array(world[0], np.float32), map(Lists.from_sequences, world[1:])
    num_queries, num_candidates = scores.shape
    names = Lists.from_sequences([[query] for query in range(num_queries)])  # a history that tells the query
    before, ranking.SCORES_AT_A_TIME = ranking.SCORES_AT_A_TIME, size * num_candidates  # size queries at a time
    try:
        got = ScoreRanker(lambda h: scores[h.rows], names, num_candidates).rank(relevant, [None, excluded], k)
    finally:
        ranking.SCORES_AT_A_TIME = before
    for lists_, left_out in zip(got, (Lists.empty(num_queries), excluded), strict=True):
        for query in range(num_queries):
            order = in_order(scores[query], left_out[query])
            assert lists_.lists[query].tolist() == (order + [-1] * k)[:k]
            assert lists_.num_ranked[query] == len(order)
            part = slice(relevant.offsets[query], relevant.offsets[query + 1])
            expected = [order.index(c) if c in order else num_candidates for c in relevant[query].tolist()]
            assert lists_.ranks.ordinal[part].tolist() == expected


def test_scores_of_several_blocks_of_the_corpus_are_ranked_as_embeddings_are():
    rng = np.random.default_rng(0)
    queries, candidates = (rng.standard_normal((n, 3)).astype(np.float32) for n in (5, 40_000))
    relevant = Lists.from_pairs(rng.integers(0, 5, 40), rng.integers(0, 40_000, 40), 5)
    excluded = Lists.from_pairs(rng.integers(0, 5, 900), rng.integers(0, 40_000, 900), 5)
    scores = np.asarray(blocks.dot(*map(jnp.asarray, (queries, candidates))))
    names = Lists.from_sequences([[query] for query in range(5)])
    got = ScoreRanker(lambda h: scores[h.rows], names, 40_000).rank(relevant, [None, excluded], 50)
    expected = EmbeddingRanker(queries, candidates).rank(relevant, [None, excluded], 50)
    for ours, theirs in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours.lists, theirs.lists)
        np.testing.assert_array_equal(ours.num_ranked, theirs.num_ranked)
        for mine, other in zip(ours.ranks, theirs.ranks, strict=True):
            assert np.max(np.abs(mine - other)) <= 1  # products in blocks and in one differ by a rounding


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_not_finite_names_its_query(value):
    scores = np.zeros((3, 4), np.float32)
    scores[1, 2] = value
    names = Lists.from_sequences([[0], [1], [2]])
    with pytest.raises(ValueError, match="the scores of query 1 are not finite"):
        ScoreRanker(lambda h: scores[h.rows], names, 4).rank(names, [None], 2)


def test_no_queries_have_no_rankings():
    none = Lists.empty(0)
    (got,) = ScoreRanker(lambda h: np.zeros((0, 4), np.float32), none, 4).rank(none, [None], 2)
    assert got.lists.shape == (0, 2) and not len(got.ranks.higher)
