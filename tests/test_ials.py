"""iALS beside plain forms of its objective and its solutions."""

import numpy as np
import pytest

from retrieval.baselines import ials
from retrieval.baselines.training import Training
from retrieval.lists import Lists

SETTINGS = {"regularization": 2.0, "alpha": 5.0}


def training_of(lists, num_candidates):
    histories = Lists.from_sequences(lists).sets()
    return Training(histories, histories.rows, None, num_candidates)


def random_training(seed, num_queries=25, num_candidates=14):
    rng = np.random.default_rng(seed)
    lists = [rng.integers(0, num_candidates, rng.integers(0, 12)).tolist() for _ in range(num_queries)]
    lists[3] = []
    return training_of(lists, num_candidates)


def solve(others, own, regularization, alpha):
    """Returns the exact factors of one row that has interactions with `own`."""
    near = others[own].astype(np.float64)
    normal = others.T @ others + (alpha - 1) * near.T @ near + regularization * np.eye(others.shape[1])
    return np.linalg.solve(normal, alpha * near.sum(axis=0))


def objective(training, candidates, regularization, alpha):
    """Returns the objective at the best factors of the queries."""
    queries = np.array(
        [solve(candidates, training.histories[q], regularization, alpha) for q in range(len(training.histories))]
    )
    wanted = np.zeros((len(queries), len(candidates)))
    wanted[training.histories.owners, training.histories.rows] = 1
    errors = np.where(wanted > 0, alpha, 1) * (wanted - queries @ candidates.T) ** 2
    return errors.sum() + regularization * (np.sum(queries**2) + np.sum(candidates.astype(np.float64) ** 2))


@pytest.fixture(params=["all pairs", "lists"])
def form(request, monkeypatch):
    monkeypatch.setattr(ials, "DENSE", 0.0 if request.param == "all pairs" else 2.0)
    monkeypatch.setattr(ials, "GATHERED", 16)  # several groups of lists of one length
    return request.param


def test_queries_are_folded_in_exactly():
    training = random_training(0)
    candidates = np.random.default_rng(1).standard_normal((14, 3)).astype(np.float32)
    got = ials.fold_in(candidates, training.histories, **SETTINGS)
    for query in range(len(got)):
        np.testing.assert_allclose(
            got[query], solve(candidates, training.histories[query], 2.0, 5.0), rtol=2e-4, atol=1e-5
        )
    assert not got[3].any()  # no history


def test_the_objective_falls_to_that_of_exact_alternation(form):
    training = random_training(2)
    of = [
        objective(training, ials.candidate_factors(training, factors=4, iterations=i, **SETTINGS), 2.0, 5.0)
        for i in (1, 2, 4, 8, 16, 60)
    ]
    assert all(later <= earlier * (1 + 1e-5) for earlier, later in zip(of, of[1:], strict=False))
    queries, candidates = (np.random.default_rng(0).random((n, 4)) * ials.INITIAL_SCALE for n in (25, 14))
    turned = Lists.from_pairs(training.histories.rows, training.histories.owners, 14)
    for _ in range(60):
        queries = np.array([solve(candidates, training.histories[q], 2.0, 5.0) for q in range(25)])
        candidates = np.array([solve(queries, turned[c], 2.0, 5.0) for c in range(14)])
    assert of[-1] == pytest.approx(objective(training, candidates, 2.0, 5.0), rel=2e-2)


@pytest.mark.parametrize("iterations", [1, 2, 6])
def test_one_factor_is_that_of_exact_alternation(form, iterations):
    training = random_training(5)  # in one dimension, a step of conjugate gradients is the solution
    rng = np.random.default_rng(7)
    _, candidates = (rng.random((n, 1), np.float32) * ials.INITIAL_SCALE for n in (25, 14))
    turned = Lists.from_pairs(training.histories.rows, training.histories.owners, 14)
    for _ in range(iterations):
        queries = np.array([solve(candidates, training.histories[q], 2.0, 5.0) for q in range(25)])
        candidates = np.array([solve(queries, turned[c], 2.0, 5.0) for c in range(14)])
    got = ials.candidate_factors(training, factors=1, iterations=iterations, seed=7, **SETTINGS)
    np.testing.assert_allclose(got, candidates, rtol=1e-4, atol=1e-6)


def test_scores_are_products_of_factors():
    training = random_training(6)
    candidates = ials.candidate_factors(training, factors=3, iterations=2, **SETTINGS)
    scores = ials.fit(training, factors=3, iterations=2, **SETTINGS)(training.histories)
    queries = np.array([solve(candidates, training.histories[q], 2.0, 5.0) for q in range(25)])
    known = training.histories.lengths > 0
    np.testing.assert_allclose(scores[known], (queries @ candidates.T)[known], rtol=1e-3, atol=1e-4)


def test_both_forms_give_the_same_factors(monkeypatch):
    training = random_training(3)
    found = []
    for dense in (0.0, 2.0):
        monkeypatch.setattr(ials, "DENSE", dense)
        found.append(ials.candidate_factors(training, factors=3, iterations=5, **SETTINGS))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-3, atol=1e-5)


def test_candidates_that_nobody_has_get_nothing(form):
    training = training_of([[0, 1], [1], [0, 1]], 4)
    candidates = ials.candidate_factors(training, factors=2, iterations=60, **SETTINGS)
    scores = np.asarray(ials.fit(training, factors=2, iterations=60, **SETTINGS)(training.histories))
    assert np.abs(candidates[2:]).max() < 1e-3 * np.abs(candidates[:2]).max()
    assert np.all(scores[:, :2] > scores[:, 2:].max())


def test_one_query_and_one_candidate(form):
    scores = ials.fit(training_of([[0]], 1), factors=2, iterations=3, **SETTINGS)(Lists.from_sequences([[0], []]))
    assert scores.shape == (2, 1) and np.isfinite(scores).all()


def test_the_same_seed_gives_the_same_bits():
    training = random_training(4)
    first, again, other = (
        ials.candidate_factors(training, factors=3, iterations=3, seed=seed, **SETTINGS) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("wrong", [{"regularization": 0.0}, {"alpha": 0.5}])
def test_settings_without_a_minimum_are_refused(wrong):
    with pytest.raises(ValueError, match="regularization must be above 0 and alpha at least 1"):
        ials.candidate_factors(random_training(0), factors=2, iterations=1, **(SETTINGS | wrong))
