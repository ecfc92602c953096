"""Metrics are those of trec_eval (through ir-measures) and SciPy, per query, on random embeddings."""

import ir_measures
import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from ir_measures import AP, RR, P, R, Success, nDCG

from retrieval.common.lists import Lists
from retrieval.evaluation import list_metrics, ranking_metrics
from retrieval.ranking.ranks import rank
from retrieval.ranking.topk import top_k

Q, N, K = 20, 60, 25
KS = (1, 3, 10, 50, N)
OF_TREC = {
    P: ranking_metrics.precision_at,
    R: ranking_metrics.recall_at,
    Success: ranking_metrics.hit_rate_at,
    RR: ranking_metrics.reciprocal_rank_at,
    nDCG: ranking_metrics.ndcg_at,
    AP: ranking_metrics.average_precision_at,
}
OF_INTERACTIONS = {
    Success: ranking_metrics.interaction_hit_rate_at,
    RR: ranking_metrics.interaction_reciprocal_rank_at,
    nDCG: ranking_metrics.interaction_ndcg_at,
}


def random_lists(rng, longest):
    """Returns lists of up to `longest` candidates; the first has none, the second all but two."""
    lengths = [0, N - 2, *rng.integers(1, longest, Q - 2)]
    return Lists.from_sequences([rng.choice(N, length, replace=False) for length in lengths])


def whole_numbers(rng, dimension):
    """Returns embeddings of queries and candidates whose scores have no rounding: their order is not in doubt."""
    return (rng.integers(-700, 700, (n, dimension)).astype(np.float32) for n in (Q, N))


@pytest.fixture(params=[(seed, excluding) for seed in range(4) for excluding in (False, True)], scope="module")
def case(request):
    """Returns the scores, minus infinity where excluded, what is relevant and excluded, and the ranks."""
    seed, excluding = request.param
    rng = np.random.default_rng(seed)
    queries, candidates = whole_numbers(rng, 8)
    scores = queries.astype(np.float64) @ candidates.T
    assert np.diff(np.sort(scores)).min() > 0  # no ties
    relevant, excluded = random_lists(rng, 30), random_lists(rng, 15)  # some of what is relevant is excluded
    if not excluding:
        excluded = Lists.empty(Q)
    scores[excluded.owners, excluded.rows] = -np.inf
    return scores, relevant, excluded, rank(queries, candidates, relevant, excluded)


def of_trec(measure, owners, rows, scores):
    """Returns trec_eval's value at each k of each query [len(KS), Q]; what is retrieved has a finite score."""
    qrels = [ir_measures.Qrel(f"{q:03}", f"{row:03}", 1) for q, row in zip(owners, rows, strict=True)]
    places = np.argwhere(np.isfinite(scores))
    run = [ir_measures.ScoredDoc(f"{q:03}", f"{row:03}", float(scores[q, row])) for q, row in places]
    values = np.full((len(KS), len(scores)), np.nan)
    for metric in ir_measures.iter_calc([measure @ k for k in KS], qrels, run):
        values[KS.index(metric.measure["cutoff"]), int(metric.query_id)] = metric.value
    return values


@pytest.mark.parametrize("measure", OF_TREC, ids=str)
def test_metrics_of_a_query_are_those_of_trec_eval(case, measure):
    scores, relevant, _, ranks = case
    placed, asked = ranking_metrics.Placed(ranks.ordinal, relevant), relevant.lengths > 0
    expected = of_trec(measure, relevant.owners, relevant.rows, scores)
    if measure is AP:  # trec_eval divides by all that is relevant
        expected *= relevant.lengths / np.maximum(np.minimum(relevant.lengths, np.array(KS)[:, None]), 1)
    got = np.array([OF_TREC[measure](placed, k) for k in KS])
    np.testing.assert_allclose(got[:, asked], expected[:, asked], rtol=0, atol=1e-9)
    assert np.isnan(expected[:, ~asked]).all()


def test_capped_recall_is_the_better_of_precision_and_recall(case):
    scores, relevant, _, ranks = case
    placed = ranking_metrics.Placed(ranks.ordinal, relevant)
    precision, recall = (of_trec(measure, relevant.owners, relevant.rows, scores) for measure in (P, R))
    got = [ranking_metrics.capped_recall_at(placed, k) for k in KS]
    np.testing.assert_allclose(got, np.maximum(precision, recall), rtol=0, atol=1e-9)


@pytest.mark.parametrize("measure", OF_INTERACTIONS, ids=str)
def test_metrics_of_interactions_are_those_of_trec_eval_where_each_is_a_query(case, measure):
    scores, relevant, _, ranks = case
    placed = ranking_metrics.Placed(ranks.ordinal, relevant)
    expected = of_trec(measure, np.arange(len(relevant.rows)), relevant.rows, scores[relevant.owners])
    expected = np.nan_to_num(expected).mean(axis=1)  # NaN: all is excluded
    of_queries = [np.nan_to_num(OF_INTERACTIONS[measure](placed, k)) for k in KS]
    got = np.average(of_queries, axis=1, weights=placed.num_relevant)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)


def check_auc_and_mean_rank(scores, relevant, excluded, ranks):
    placed = ranking_metrics.Placed(ranks.mean, relevant)
    areas, means = ranking_metrics.auc(placed, N - excluded.lengths), ranking_metrics.mean_rank(placed)
    assert np.isnan([areas[0], means[0]]).all()  # nothing is relevant
    for q in range(1, Q):
        places = np.where(np.isfinite(scores[q]), scipy.stats.rankdata(-scores[q]), N + 1)
        np.testing.assert_allclose(means[q], places[relevant[q]].mean(), rtol=0, atol=1e-9)
        others = np.setdiff1d(np.arange(N), np.union1d(relevant[q], excluded[q]))
        if not len(others):
            assert np.isnan(areas[q])
            continue
        stands_before = scipy.stats.mannwhitneyu(scores[q, relevant[q]], scores[q, others], method="asymptotic")
        expected = stands_before.statistic / (len(relevant[q]) * len(others))
        np.testing.assert_allclose(areas[q], expected, rtol=0, atol=1e-9)


def test_auc_is_the_statistic_of_mann_and_whitney_and_the_mean_rank_that_of_scipy(case):
    check_auc_and_mean_rank(*case)


@pytest.mark.parametrize("seed", range(3))
def test_auc_and_mean_rank_are_those_of_scipy_among_ties(seed):
    rng = np.random.default_rng(seed)
    queries, candidates = (rng.integers(-1, 2, (n, 3)).astype(np.float32) for n in (Q, N))
    scores, relevant, excluded = queries.astype(np.float64) @ candidates.T, random_lists(rng, 30), random_lists(rng, 15)
    scores[excluded.owners, excluded.rows] = -np.inf
    check_auc_and_mean_rank(scores, relevant, excluded, rank(queries, candidates, relevant, excluded))


@pytest.fixture(params=range(3))
def recommended(request):
    """Returns lists of `top_k`, of which the second is short, and the embeddings of the candidates."""
    rng = np.random.default_rng(request.param)
    queries, candidates = (rng.standard_normal((n, 8)).astype(np.float32) for n in (Q, N))
    return np.asarray(top_k(queries, candidates, K, excluded=random_lists(rng, 15))[1]), candidates


@pytest.mark.parametrize("k", (2, 10, K))
def test_diversity_is_the_mean_distance_of_scipy(recommended, k):
    positions, candidates = recommended
    genres = np.random.default_rng(0).random((N, 6)) < 0.4
    genres[:, 0] |= ~genres.any(axis=1)  # where SciPy divides by zero
    for vectors in (candidates.astype(np.float64), genres.astype(np.float64)):
        expected = [scipy.spatial.distance.pdist(vectors[p[p >= 0]], "cosine").mean() for p in positions[:, :k]]
        np.testing.assert_allclose(list_metrics.diversity_at(positions, vectors, k), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("k", (1, 10, K))
def test_gini_is_half_the_relative_mean_difference(recommended, k):
    listed = recommended[0][:, :k]
    counts = np.histogram(listed, bins=np.arange(N + 1))[0].astype(float)
    expected = scipy.spatial.distance.pdist(counts[:, None], "cityblock").sum() / (N * counts.sum())
    got = np.mean(list_metrics.gini_at(recommended[0], N, k))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9)
    coverage = np.nanmean(list_metrics.coverage_at(recommended[0], N, k))  # NaN but for one where no spread is known
    np.testing.assert_allclose(coverage, np.count_nonzero(counts) / N, rtol=0, atol=1e-9)
