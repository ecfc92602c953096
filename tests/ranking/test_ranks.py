"""Ranks by counting are those of a full comparison, under every policy for equal scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from retrieval.common.lists import Lists
from retrieval.ranking import blocks, ranks
from retrieval.ranking.ranks import rank, rank_each
from retrieval.ranking.topk import top_k

SMALL_INTEGERS = st.integers(-2, 2).map(float)  # dot products are exact, and often tie
QUERIES, CANDIDATES = 4, 7


def embeddings(*shape):
    return hnp.arrays(np.float32, shape, elements=SMALL_INTEGERS)


@st.composite
def lists(draw, count):
    """Spreads `count` rows over the queries: some get none, some get a row twice."""
    owners = draw(hnp.arrays(np.int32, count, elements=st.integers(0, QUERIES - 1)))
    rows = draw(hnp.arrays(np.int32, count, elements=st.integers(0, CANDIDATES - 1)))
    return Lists.from_pairs(owners, rows, QUERIES)


def random(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def everything(num_queries, num_candidates):
    return Lists.from_sequences([range(num_candidates)] * num_queries)


def with_scores(*scores):
    """Returns embeddings of one query whose dot products are `scores`."""
    return np.ones((1, 1), np.float32), np.array(scores, np.float32)[:, None]


def compare_all(queries, candidates, relevant, excluded):
    """Compares each relevant candidate with every other, one by one."""
    scores = np.asarray(queries, np.float64) @ np.asarray(candidates, np.float64).T
    counts = []
    for query in range(len(scores)):
        for row in relevant[query]:
            if row in excluded[query]:
                counts.append((len(candidates), 0, 0))
                continue
            higher = equal_before = equal = 0
            for other in range(len(candidates)):
                if other != row and other not in excluded[query]:
                    higher += scores[query, other] > scores[query, row]
                    equal += scores[query, other] == scores[query, row]
                    equal_before += scores[query, other] == scores[query, row] and other < row
            counts.append((higher, equal_before, equal))
    return np.array(counts).T


def assert_ranked_as_compared(queries, candidates, relevant, excluded):
    got = rank(queries, candidates, relevant, excluded)
    excluded = Lists.empty(len(relevant)) if excluded is None else excluded
    higher, equal_before, equal = compare_all(queries, candidates, relevant, excluded)
    np.testing.assert_array_equal(got.optimistic, higher)
    np.testing.assert_array_equal(got.ordinal, higher + equal_before)
    np.testing.assert_array_equal(got.pessimistic, higher + equal)
    np.testing.assert_array_equal(got.mean, higher + equal / 2)


@settings(max_examples=150, deadline=None)
@given(
    embeddings(QUERIES, 2),
    embeddings(CANDIDATES, 2),
    st.sampled_from([1, 9]).flatmap(lists),
    st.none() | st.sampled_from([1, 6, 20]).flatmap(lists),
)
def test_ranks_are_those_of_a_full_comparison(queries, candidates, relevant, excluded):
    assert_ranked_as_compared(queries, candidates, relevant, excluded)


@pytest.mark.parametrize(
    ("queries_per_block", "candidates_per_block", "relevant_per_row"), [(1, 3, 1), (2, 4, 2), (4, 7, 16)]
)
@settings(max_examples=25, deadline=None)
@given(st.data(), embeddings(QUERIES, 2), embeddings(CANDIDATES, 2))
def test_blocks_change_nothing(queries_per_block, candidates_per_block, relevant_per_row, data, queries, candidates):
    def draw(*lengths):
        rows = [data.draw(st.lists(st.integers(0, 6), min_size=n, max_size=n)) for n in lengths]
        return Lists.from_sequences(rows)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blocks, "QUERIES_PER_BLOCK", queries_per_block)
        patch.setattr(blocks, "CANDIDATES_PER_BLOCK", candidates_per_block)
        patch.setattr(blocks, "TILE", 1)
        patch.setattr(ranks, "RELEVANT_PER_ROW", relevant_per_row)
        assert_ranked_as_compared(queries, candidates, draw(0, 5, 1, 3), draw(2, 0, 4, 1))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks, "CANDIDATES_PER_BLOCK", 16)
    monkeypatch.setattr(blocks, "QUERIES_PER_BLOCK", 8)
    monkeypatch.setattr(blocks, "TILE", 8)


def test_a_wrong_guess_of_the_scores_is_counted_again(small_blocks, monkeypatch):
    guesses = []

    def wrong(queries, candidates, rows, size):
        guesses.append(len(queries))
        return jnp.full(rows.shape, 1.5)

    monkeypatch.setattr(ranks, "_score_columns", wrong)
    ranks.count_block.clear_cache()
    queries, candidates = random(9, 3).round(), random(45, 3, seed=1).round()
    assert_ranked_as_compared(queries, candidates, everything(9, 45), Lists.from_sequences([[1, 44]] * 9))
    assert guesses
    ranks.count_block.clear_cache()


def test_a_device_that_never_repeats_its_products_is_told_instead_of_counted_for_ever(small_blocks, monkeypatch):
    count, passes = ranks._count_corpus, []

    def unsteady(queries, candidates, guess, *arguments):
        jax.debug.callback(lambda: passes.append(1))
        return guess + 1, *count(queries, candidates, guess, *arguments)[1:]

    monkeypatch.setattr(ranks, "_count_corpus", unsteady)
    ranks.count_block.clear_cache()
    with pytest.raises(FloatingPointError, match=r"differ in each of 4 passes.*xla_gpu_deterministic_ops=true"):
        rank(random(8, 3), random(45, 3, seed=1), everything(8, 45))
    jax.effects_barrier()
    assert len(passes) % ranks.MOST_PASSES == 0
    ranks.count_block.clear_cache()


@settings(max_examples=50, deadline=None)
@given(embeddings(QUERIES, 2), embeddings(CANDIDATES, 2), lists(9), lists(6), lists(20))
def test_each_exclusion_gives_what_it_gives_alone(queries, candidates, relevant, few, many):
    exclusions = [None, few, many, few]
    together = rank_each(queries, candidates, relevant, exclusions)
    for got, excluded in zip(together, exclusions, strict=True):
        np.testing.assert_array_equal(got, rank(queries, candidates, relevant, excluded))


def test_queries_with_few_and_with_many_relevant_candidates_share_a_call():
    relevant = Lists.from_sequences([range(40), [], [3], range(17), [5] * 33])
    assert_ranked_as_compared(random(5, 3).round(), random(40, 3, seed=1).round(), relevant, None)


def test_each_policy_breaks_ties_its_own_way():
    got = rank(*with_scores(1, 5, 1, 1, 0), Lists.from_sequences([[2]]))
    assert [got.optimistic[0], got.ordinal[0], got.mean[0], got.pessimistic[0]] == [1, 2, 2.0, 3]


def test_an_excluded_relevant_candidate_is_never_a_hit():
    got = rank(*with_scores(9, 5, 1), Lists.from_sequences([[0, 1]]), Lists.from_sequences([[0]]))
    assert got.optimistic.tolist() == got.ordinal.tolist() == got.pessimistic.tolist() == [3, 0]


def test_excluding_all_that_is_better_or_equal_gives_the_first_place():
    queries, candidates = with_scores(4, 2, 7, 2, 1)
    got = rank(queries, candidates, Lists.from_sequences([[3]]), Lists.from_sequences([[0, 1, 2]]))
    assert got.pessimistic.tolist() == [0]


@pytest.mark.parametrize("num_blocks", [1, 4])
def test_every_place_is_taken_once_where_no_scores_are_equal(monkeypatch, num_blocks):
    monkeypatch.setattr(blocks, "CANDIDATES_PER_BLOCK", 52 // num_blocks)
    monkeypatch.setattr(blocks, "TILE", 1)
    got = rank(random(64, 32), random(50, 32, seed=1), everything(64, 50))
    assert not got.equal.any()  # nobody ties with another, nor loses to itself
    np.testing.assert_array_equal(np.sort(got.higher.reshape(64, 50)), np.tile(np.arange(50), (64, 1)))


@pytest.mark.parametrize("num_blocks", [1, 7])
def test_a_copy_of_a_candidate_ties_with_it_exactly(monkeypatch, num_blocks):
    monkeypatch.setattr(blocks, "CANDIDATES_PER_BLOCK", 224 // num_blocks)
    monkeypatch.setattr(blocks, "TILE", 8)
    once = random(101, 33)
    got = rank(random(20, 33, seed=1), np.concatenate([once, once]), everything(20, 202))
    assert (got.equal == 1).all()
    places = np.sort(got.higher.reshape(20, 202))
    np.testing.assert_array_equal(places, np.tile(np.repeat(np.arange(0, 202, 2), 2), (20, 1)))


@pytest.mark.parametrize("scale", [1, 1000])
def test_the_ordinal_rank_is_the_place_in_the_top_k(scale, small_blocks):
    queries, candidates = (scale * random(30, 2)).round() / scale, random(40, 2, seed=1).round()
    excluded = Lists.from_sequences([[query, 39 - query] for query in range(30)])
    _, rows = top_k(queries, candidates, 40, excluded)
    relevant = Lists.from_sequences([found[found >= 0] for found in rows])
    places = rank(queries, candidates, relevant, excluded).ordinal
    np.testing.assert_array_equal(places.reshape(30, 38), np.tile(np.arange(38), (30, 1)))


def test_a_score_that_is_no_number_never_helps():
    queries, candidates = with_scores(1, np.nan, 2)
    got = rank(queries, candidates, Lists.from_sequences([[0, 1, 2]]))
    assert got.optimistic.tolist() == got.ordinal.tolist() == got.pessimistic.tolist() == [2, 3, 1]


def temporaries(num_queries, num_candidates, num_pairs):
    size, block = blocks.block_shape(num_queries, num_candidates)
    ints = [jax.ShapeDtypeStruct((n,), jnp.int32) for n in (num_pairs, num_pairs, 1 + -(-num_candidates // block))]
    queries, candidates = (jax.ShapeDtypeStruct((length, 64), jnp.float32) for length in (size, num_candidates))
    rows = jax.ShapeDtypeStruct((size, ranks.RELEVANT_PER_ROW), jnp.int32)
    program = ranks.count_block.lower(queries, candidates, rows, blocks.Pairs(*ints), block).compile()
    return program.memory_analysis().temp_size_in_bytes


def test_excluding_a_score_that_is_no_number_takes_it_from_above():
    got = rank(*with_scores(1, np.nan, 2), Lists.from_sequences([[0, 2]]), Lists.from_sequences([[1]]))
    assert got.ordinal.tolist() == got.pessimistic.tolist() == [1, 0]


def test_memory_grows_neither_with_the_corpus_nor_with_the_queries():
    assert temporaries(1000, 10**5, 2**14) < temporaries(10**6, 10**6, 2**14) < 256e6
    assert temporaries(10**6, 10**6, 2**20) - temporaries(10**6, 10**6, 2**14) < 3 * 4 * 2**20


@pytest.mark.parametrize("num_candidates", [0, 5])
@pytest.mark.parametrize("num_queries", [0, 3])
def test_without_relevant_candidates_there_are_no_ranks(num_queries, num_candidates):
    got = rank(random(num_queries, 2), random(num_candidates, 2), Lists.empty(num_queries))
    assert [len(counts) for counts in got] == [0, 0, 0]


def test_a_relevant_row_outside_the_corpus_is_named():
    with pytest.raises(ValueError, match=r"rows must be in \[0, 3\), got 1 to 3"):
        rank(*with_scores(1, 2, 3), Lists.from_sequences([[1, 3]]))


def test_every_query_needs_its_own_relevant_candidates():
    with pytest.raises(ValueError, match="got 2 lists for 1 queries"):
        rank(*with_scores(1, 2, 3), Lists.empty(2))
