"""iALS beside plain forms of its objective, its blocks and its solutions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.baselines import ials
from retrieval.baselines.base import Training
from retrieval.common.lists import Lists
from retrieval.data.interactions import Table

SETTINGS = {"regularization": 2.0, "alpha": 5.0}


def training_of(lists, num_candidates):
    histories = Lists.from_sequences(lists).sets()
    return Training(histories, histories.rows, None, Table(np.arange(num_candidates)))


def random_training(seed, num_queries=25, num_candidates=14):
    rng = np.random.default_rng(seed)
    lists = [rng.integers(0, num_candidates, rng.integers(0, 12)).tolist() for _ in range(num_queries)]
    lists[3] = []
    return training_of(lists, num_candidates)


def solve_all(others, lists, regularization, alpha):
    """Returns the exact factors of one side, a list of the other after the other: the plain form."""
    others, shape = np.asarray(others, np.float64), (len(lists), others.shape[1])
    solved = np.zeros(shape)
    for place in range(len(lists)):
        near = others[lists[place]]
        normal = others.T @ others + (alpha - 1) * near.T @ near + regularization * np.eye(shape[1])
        solved[place] = np.linalg.solve(normal, alpha * near.sum(axis=0))
    return solved


def turned(training):
    return Lists.from_pairs(training.histories.rows, training.histories.owners, training.num_candidates)


def alternate(training, factors, iterations, regularization, alpha):
    """Returns the candidates' factors by exact solutions in turns, from the same start: the plain form."""
    rng = np.random.default_rng(0)
    rng.random((len(training.histories), factors), np.float32)
    candidates = rng.random((training.num_candidates, factors), np.float32) * ials.INITIAL_SCALE
    for _ in range(iterations):
        queries = solve_all(candidates, training.histories, regularization, alpha)
        candidates = solve_all(queries, turned(training), regularization, alpha)
    return candidates


def objective(training, candidates, regularization, alpha):
    """Returns the objective at the best factors of the queries."""
    queries = solve_all(candidates, training.histories, regularization, alpha)
    wanted = np.zeros((len(queries), len(candidates)))
    wanted[training.histories.owners, training.histories.rows] = 1
    errors = np.where(wanted > 0, alpha, 1) * (wanted - queries @ candidates.T) ** 2
    return errors.sum() + regularization * (np.sum(queries**2) + np.sum(candidates.astype(np.float64) ** 2))


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(ials, "WIDTH", 2)
    monkeypatch.setattr(ials, "BLOCK_VALUES", 24)  # lists of several rows, several blocks


ANY_LISTS = st.lists(st.lists(st.integers(0, 6), max_size=9), max_size=8)


@given(ANY_LISTS, st.sampled_from([1, 2, 16]), st.sampled_from([1, 8, 64, 2**18]))
def test_blocks_hold_every_list_once(lists, width, values):
    lists = Lists.from_sequences(lists).sets()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ials, "WIDTH", width)
        patch.setattr(ials, "BLOCK_VALUES", values)
        blocks = ials._blocks(lists, 7, dimension=4)
    assert np.all(np.diff(blocks.owners, axis=1) >= 0)
    np.testing.assert_array_equal(blocks.lists.reshape(-1)[blocks.places], np.arange(len(lists)))
    assert np.sum(blocks.lists < len(lists)) == len(lists)
    for place, at in enumerate(blocks.places):
        block, in_block = divmod(int(at), blocks.lists.shape[1])
        own = blocks.others[block][blocks.owners[block] == in_block]
        np.testing.assert_array_equal(own[own < 7], lists[place])
    assert np.sum(blocks.others < 7) == len(lists.rows)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@given(ANY_LISTS.filter(len), st.sampled_from([1.0, 1.5, 40.0, 1000.0]), st.sampled_from([0.1, 30.0]), st.booleans())
def test_queries_are_folded_in_exactly(lists, alpha, regularization, twins):
    candidates = np.random.default_rng(1).standard_normal((7, 3)).astype(np.float32)
    if twins:
        candidates[1] = candidates[0]
    histories = Lists.from_sequences(lists).sets()
    got = ials.fold_in(candidates, histories, regularization=regularization, alpha=alpha)
    np.testing.assert_allclose(got, solve_all(candidates, histories, regularization, alpha), rtol=2e-3, atol=2e-4)
    assert not got[histories.lengths == 0].any()


def test_a_turn_with_many_steps_is_the_exact_solution(monkeypatch, small_blocks):
    monkeypatch.setattr(ials, "STEPS", 25)
    ials._alternate.clear_cache()
    training = random_training(5)
    got = ials.candidate_factors(training, factors=3, iterations=4, **SETTINGS)
    ials._alternate.clear_cache()
    np.testing.assert_allclose(got, alternate(training, 3, 4, 2.0, 5.0), rtol=1e-3, atol=1e-5)


def test_the_objective_falls_to_that_of_exact_alternation(small_blocks):
    training = random_training(2)
    of = [
        objective(training, ials.candidate_factors(training, factors=4, iterations=i, **SETTINGS), 2.0, 5.0)
        for i in range(1, 31)
    ]
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in zip(of, of[1:], strict=False))
    assert of[-1] == pytest.approx(objective(training, alternate(training, 4, 30, 2.0, 5.0), 2.0, 5.0), rel=1e-3)


def test_where_blocks_end_does_not_matter(monkeypatch):
    training = random_training(3)
    whole = ials.candidate_factors(training, factors=3, iterations=5, **SETTINGS)
    monkeypatch.setattr(ials, "WIDTH", 1)
    monkeypatch.setattr(ials, "BLOCK_VALUES", 1)
    in_parts = ials.candidate_factors(training, factors=3, iterations=5, **SETTINGS)
    np.testing.assert_allclose(in_parts, whole, rtol=1e-3, atol=1e-5)


def test_candidates_that_nobody_has_get_nothing():
    training = training_of([[0, 1], [1], [0, 1]], 4)
    candidates = ials.candidate_factors(training, factors=2, iterations=1, **SETTINGS)
    assert not candidates[2:].any() and candidates[:2].any()


def test_one_query_and_one_candidate():
    scores = ials.fit(training_of([[0]], 1), factors=2, iterations=3, **SETTINGS)(Lists.from_sequences([[0], []]))
    assert scores.shape == (2, 1) and np.isfinite(scores).all()


def test_nobody_has_anything():
    assert not ials.candidate_factors(training_of([], 3), factors=2, iterations=2, **SETTINGS).any()
    assert ials.fold_in(np.ones((3, 2), np.float32), Lists.empty(0), **SETTINGS).shape == (0, 2)


def test_the_same_seed_gives_the_same_bits():
    training = random_training(4)
    first, again, other = (
        ials.candidate_factors(training, factors=3, iterations=3, seed=seed, **SETTINGS) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_other_settings_compile_nothing():
    training = random_training(6)
    ials.candidate_factors(training, factors=3, iterations=3, **SETTINGS)
    programs = ials._alternate._cache_size()
    ials.candidate_factors(training, factors=3, iterations=4, seed=1, regularization=3.0, alpha=7.0)
    assert ials._alternate._cache_size() == programs


@pytest.mark.parametrize("wrong", [{"regularization": 0.0}, {"alpha": 0.5}, {"alpha": float("nan")}])
def test_settings_without_a_minimum_are_refused(wrong):
    with pytest.raises(ValueError, match="regularization must be above 0 and alpha at least 1"):
        ials.candidate_factors(random_training(0), factors=2, iterations=1, **(SETTINGS | wrong))
    with pytest.raises(ValueError, match="regularization must be above 0 and alpha at least 1"):
        ials.fold_in(np.ones((14, 2), np.float32), Lists.empty(1), **(SETTINGS | wrong))


def test_a_regularization_lost_in_rounding_is_refused():
    training = training_of([[0], [0]], 1)
    with pytest.raises(ValueError, match="regularization 1e-30 is lost"):
        ials.candidate_factors(training, factors=8, iterations=5, regularization=1e-30, alpha=5.0)
    with pytest.raises(ValueError, match="regularization 1e-30 is lost"):
        ials.fold_in(np.ones((9, 8), np.float32), training.histories, regularization=1e-30, alpha=5.0)
