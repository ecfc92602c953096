"""Answers follow the popularity at the end of train: what scores gain, where it is applied, and who gets which."""

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.config.schema import Addition, Config, Feature
from retrieval.data.interactions import Interactions, Table
from retrieval.data.popularity import SECONDS_A_DAY, recent_prior
from retrieval.data.splits import split
from retrieval.index import HnswIndex
from retrieval.models.binding import bind, init
from retrieval.models.two_tower import TwoTower
from retrieval.pipeline.recipe import prepare
from retrieval.ranking.topk import top_k
from retrieval.serving import bundle
from retrieval.training.epochs import fit


def plain_gains(query_rows, candidate_rows, times, num_queries, num_candidates, half_life, news=0.0):
    """What each query's score of each candidate gains: the definition, interaction by interaction."""
    gains = np.zeros((num_queries, num_candidates))
    events = list(zip(query_rows, candidate_rows, times, strict=True))
    for query in range(num_queries):
        own = [t for q, _, t in events if q == query and query > 0]
        away = (max(times) - max(own)) / SECONDS_A_DAY if own else 0.0
        since = max((days for days in 2.0 ** np.arange(9) if days <= away), default=0.0)
        for candidate in range(num_candidates):
            now = ever = new = 0.0
            for q, c, t in events:
                if c != candidate:
                    continue
                age = (max(times) - t) / SECONDS_A_DAY
                is_first = t - min(time for other, _, time in events if other == q) <= SECONDS_A_DAY
                now += 0.5 ** (age / half_life) if own or is_first else 0.0
                ever, new = ever + 1, new + (age < since)
            gains[query, candidate] = np.log((now + 0.5) / (ever + 0.5))
            gains[query, candidate] += news * np.log((new + 1) / (ever + 1)) if since else 0.0
    return gains


def gains(prior):
    return prior.mixes[prior.groups] @ prior.shifts.T


INTERACTIONS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 9)), max_size=12)


@given(INTERACTIONS, st.sampled_from([0.5, 3.0, 1000.0]), st.sampled_from([0.0, 0.3]))
def test_the_gains_are_those_of_a_loop_over_the_interactions(interactions, half_life, news):
    columns = np.array(interactions, np.int64).reshape(-1, 3)
    queries, candidates, times = columns[:, 0].astype(np.int32), columns[:, 1].astype(np.int32), columns[:, 2] * 43_200
    of_rows = {"num_query_rows": 4, "num_candidate_rows": 5, "half_life": half_life, "news": news}
    prior = recent_prior(queries, candidates, times, **of_rows)
    expected = plain_gains(queries, candidates, times, 4, 5, half_life, news)
    np.testing.assert_allclose(gains(prior), expected, rtol=1e-4, atol=1e-5)
    assert prior.shifts.shape == (5, 11 if news else 2)


def test_a_day_after_the_first_interaction_is_still_the_beginning_and_a_second_later_is_not():
    queries, candidates = np.array([1, 1, 1], np.int32), np.array([1, 2, 3], np.int32)
    times = np.array([0, SECONDS_A_DAY, SECONDS_A_DAY + 1])
    prior = recent_prior(queries, candidates, times, num_query_rows=2, num_candidate_rows=4, half_life=1e9)
    np.testing.assert_allclose(gains(prior)[0], [0, 0, 0, -np.log(3)], atol=1e-5)


def test_what_came_before_a_query_left_falls_behind_for_it_alone():
    queries, candidates = np.array([1, 2, 2, 3], np.int32), np.array([1, 1, 2, 2], np.int32)
    times = np.array([0, 0, 30, 30]) * SECONDS_A_DAY
    of_rows = {"num_query_rows": 4, "num_candidate_rows": 3, "half_life": 1e9}
    added = gains(recent_prior(queries, candidates, times, news=1.0, **of_rows))
    added -= gains(recent_prior(queries, candidates, times, **of_rows))
    np.testing.assert_allclose(added, [[0, 0, 0], [0, -np.log(3), 0], [0, 0, 0], [0, 0, 0]], atol=1e-5)


def gains_of(towers):
    """What scores gain by the rows of queries and candidates that train knows."""
    return np.asarray(towers.queries[...] @ towers.candidates[...].T)


def config(half_life=10.0, news=0.3, **loss):
    made = Config()
    made.model.additions = (Addition("recent_popularity", arguments={"half_life": half_life, "news": news}),)
    made.model.query.features = (Feature(column="id", dropout=0.5), Feature(column="taste"))
    made.loss.name = "full_softmax"
    made.model.popularity_prior = loss.get("name") != "bpr"
    for name, value in loss.items():
        setattr(made.loss, name, value)
    return made


# Queries 0 to 59 like the candidates of their taste, and 60 to 79, who come later, have a taste alone.
RNG = np.random.default_rng(0)
TASTES = Table(np.arange(80), {"taste": np.array(["a", "b"])[np.arange(80) % 2]})
CORPUS = Table(np.arange(20))
PAIRS = np.array([(q, 2 * c + q % 2) for q in range(60) for c in RNG.permutation(10)[:5]])
EVENTS = Interactions(PAIRS[:, 0], PAIRS[:, 1], timestamps=PAIRS[:, 0] * SECONDS_A_DAY + np.tile(np.arange(5), 60))


def test_without_an_addition_the_trained_model_answers_itself():
    made = config()
    made.model.additions = ()
    recipe = prepare(made, EVENTS, CORPUS, queries=TASTES)
    params = init(recipe.model)
    assert isinstance(recipe.bound(params), TwoTower)
    assert recipe.candidate_embeddings(params).shape == (20, 33)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_scores_of_answers_differ_from_those_of_training_by_the_gains(temperature):
    recipe = prepare(config(temperature=temperature), EVENTS, CORPUS, queries=TASTES)
    params, ids = init(recipe.model), np.array([3, 58, 70])
    trained = bind(recipe.model, params)
    rows, corpus_rows = jnp.asarray(recipe.encoding.queries.rows(ids)), jnp.asarray(recipe.encoding.corpus_rows)
    before = trained.query(rows) @ trained.candidate(corpus_rows).T
    scores = recipe.query_embeddings(params, ids, EVENTS) @ recipe.candidate_embeddings(params).T
    plain = plain_gains(EVENTS.query_ids + 1, EVENTS.candidate_ids, EVENTS.timestamps, 61, 20, 10.0, 0.3)
    np.testing.assert_allclose(scores - before, temperature * plain[[4, 59, 0]], rtol=1e-3, atol=1e-4)


def test_a_candidate_that_train_does_not_know_gains_nothing_with_features_and_without():
    corpus = Table(np.arange(22), {"kind": np.array(["x"] * 22)})
    made = config()
    for features in ((Feature(column="id"),), (Feature(column="id"), Feature(column="kind"))):
        made.model.candidate.features = features
        recipe = prepare(made, EVENTS, corpus, queries=TASTES)
        assert np.all(recipe.candidate_embeddings(init(recipe.model))[20:, -11:] == 0)


def test_the_search_knows_nothing_of_what_comes_after_train():
    parts = split(EVENTS, "temporal", test_fraction=0.2, validation_fraction=0.2, seed=0)
    alone = prepare(config(), parts.train, CORPUS, queries=TASTES)
    among = prepare(config(), parts.train, CORPUS, parts.all(), TASTES)  # vocabularies of all
    known = np.unique(parts.train.query_ids)
    for recipe in (alone, among):
        rows, corpus_rows = recipe.encoding.queries.rows(known), recipe.encoding.corpus_rows
        plain = plain_gains(
            known[0] + 1 + np.searchsorted(known, parts.train.query_ids),
            parts.train.candidate_ids,
            parts.train.timestamps,
            known[0] + 1 + len(known),
            20,
            10.0,
            0.3,
        )
        found = gains_of(recipe.additions[0])[rows][:, corpus_rows]
        np.testing.assert_allclose(found, plain[known[0] + 1 :], rtol=1e-3, atol=1e-5)
    later = prepare(config(), parts.train_and_validation(), CORPUS, queries=TASTES)
    assert not np.allclose(later.additions[0].candidates[...], alone.additions[0].candidates[...])


def trained(made):
    recipe = prepare(made, EVENTS, CORPUS, queries=TASTES)
    *_, (state, _) = fit(recipe.model, recipe.examples, recipe.loss, recipe.optimizer, batch_size=64, epochs=8, seed=0)
    return recipe, state.params


def test_a_query_that_train_does_not_know_is_answered_by_its_features():
    recipe, params = trained(config())
    queries = recipe.query_embeddings(params, np.arange(60, 80), EVENTS)
    _, positions = top_k(queries, recipe.candidate_embeddings(params), k=10)
    shares = np.mean(np.asarray(positions) % 2 == np.arange(60, 80)[:, None] % 2, axis=1)
    assert np.all(shares >= 0.9), shares


def test_the_bundle_answers_as_the_recipe_does(tmp_path):
    recipe, params = trained(config())
    candidates = np.asarray(recipe.candidate_embeddings(params))
    bundle.save(
        tmp_path / "bundle",
        model=recipe.bound(params),
        queries=recipe.encoding.queries,
        candidates=recipe.encoding.candidates,
        corpus=CORPUS,
        seen=recipe.encoding.seen_by_row(EVENTS),
        index=HnswIndex.build(candidates, M=8, ef_construction=50, ef=50, seed=0),
        facts={},
    )
    ids = np.array([3, 70, 1000])  # known, known by its taste, not known
    answer = bundle.load(tmp_path / "bundle").recommend(ids, k=5, exclude_seen=False)
    scores, positions = top_k(recipe.query_embeddings(params, ids, EVENTS), candidates, k=5)
    assert np.array_equal(answer.positions, positions)
    np.testing.assert_allclose(answer.scores, scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("made", "events", "message"),
    [
        (config(half_life=-1.0), EVENTS, r"model.additions\[0\].arguments.half_life must be above 0, got -1.0"),
        (config(news=-1.0), EVENTS, r"model.additions\[0\].arguments.news must be 0 or more, got -1.0"),
        (config(name="bpr"), EVENTS, "loss.name='bpr'.*in_batch_softmax, full_softmax"),
        (config(), Interactions(PAIRS[:, 0], PAIRS[:, 1]), "no timestamps; set data.columns.timestamp"),
    ],
)
def test_what_has_no_recent_prior_is_refused(made, events, message):
    with pytest.raises(ValueError, match=message):
        prepare(made, events, CORPUS, queries=TASTES)
