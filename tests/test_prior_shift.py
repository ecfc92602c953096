"""Answers follow the popularity at the end of train: the shift of the prior, where it is applied, and who gets which."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from hypothesis import given
from hypothesis import strategies as st

from retrieval import bundle
from retrieval.config import Config, Feature
from retrieval.data.interactions import Interactions, Table
from retrieval.data.splits import split
from retrieval.index import HnswIndex
from retrieval.models.prior_shift import PriorShift
from retrieval.models.towers import IdTower
from retrieval.models.two_tower import TwoTower, bind, init
from retrieval.recipe import prepare
from retrieval.sampling import SECONDS_A_DAY, prior_shift
from retrieval.topk import top_k
from retrieval.train import fit

ROWS = jnp.arange(5)


def plain_shift(query_rows, candidate_rows, times, num_rows, half_life):
    """The definition, interaction by interaction."""
    now, ever = np.zeros((num_rows, 2)), np.zeros(num_rows)
    for query, candidate, time in zip(query_rows, candidate_rows, times, strict=True):
        weight = 2.0 ** (-(max(times) - time) / SECONDS_A_DAY / half_life)
        first = min(t for q, t in zip(query_rows, times, strict=True) if q == query)
        now[candidate] += weight * (time - first <= SECONDS_A_DAY), weight
        ever[candidate] += 1
    return np.log((now + 0.5) / (ever[:, None] + 0.5))


INTERACTIONS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 5)), max_size=12)


@given(INTERACTIONS, st.sampled_from([0.5, 3.0, 1000.0]))
def test_the_shift_is_that_of_a_loop_over_the_interactions(interactions, half_life):
    columns = np.array(interactions, np.int64).reshape(-1, 3)
    queries, candidates, times = columns[:, 0].astype(np.int32), columns[:, 1].astype(np.int32), columns[:, 2] * 40_000
    shift = prior_shift(queries, candidates, times, 5, half_life=half_life)
    expected = plain_shift(queries, candidates, times, 5, half_life)
    np.testing.assert_allclose(shift, expected, rtol=1e-5, atol=1e-6)


def test_a_day_after_the_first_interaction_is_still_the_beginning_and_a_second_later_is_not():
    queries, candidates = np.array([1, 1, 1], np.int32), np.array([1, 2, 3], np.int32)
    times = np.array([0, SECONDS_A_DAY, SECONDS_A_DAY + 1])
    unknown = prior_shift(queries, candidates, times, 4, half_life=1e9)[:, 0]
    np.testing.assert_allclose(unknown, [0, 0, 0, -np.log(3)], atol=1e-5)


def test_scores_gain_the_shift_of_those_who_ask():
    towers = [IdTower(5, 3, initial_scale=1.0, rngs=nnx.Rngs(seed)) for seed in (0, 1)]
    model = TwoTower(*towers, np.array([0.0, 2.0, 5.0, 1.0, 3.0], np.float32))
    shift = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    served = PriorShift(model, shift, num_known=3)
    gained = served.query(ROWS) @ served.candidate(ROWS).T - model.query(ROWS) @ model.candidate(ROWS).T
    expected = np.where(np.isin(ROWS, [1, 2])[:, None], shift[:, 1], shift[:, 0])  # 0 is unknown, 3 and 4 have features
    np.testing.assert_allclose(gained, expected, rtol=1e-4, atol=1e-5)


def test_embeddings_are_float32_whatever_the_towers_are():
    towers = [IdTower(5, 3, initial_scale=1.0, dtype=jnp.bfloat16, rngs=nnx.Rngs(seed)) for seed in (0, 1)]
    served = PriorShift(TwoTower(*towers), np.full((5, 2), 0.123456, np.float32), num_known=5)
    assert served.query(ROWS).dtype == served.candidate(ROWS).dtype == jnp.float32
    np.testing.assert_allclose(served.candidate(ROWS)[:, -2:] * served.query(ROWS)[1, -1], 0.123456, rtol=1e-6)


def config(half_life=10.0, **loss):
    made = Config()
    made.model.prior_half_life = half_life
    made.model.query.features = (Feature(column="id", dropout=0.5), Feature(column="taste"))
    made.loss.name = "full_softmax"
    for name, value in loss.items():
        setattr(made.loss, name, value)
    return made


# Queries 0 to 59 like the candidates of their taste, and 60 to 79, who come later, have a taste alone.
RNG = np.random.default_rng(0)
TASTES = Table(np.arange(80), {"taste": np.array(["a", "b"])[np.arange(80) % 2]})
CORPUS = Table(np.arange(20))
PAIRS = np.array([(q, 2 * c + q % 2) for q in range(60) for c in RNG.permutation(10)[:5]])
EVENTS = Interactions(PAIRS[:, 0], PAIRS[:, 1], timestamps=PAIRS[:, 0] * SECONDS_A_DAY + np.tile(np.arange(5), 60))


def test_without_a_half_life_the_trained_model_answers_itself():
    recipe = prepare(config(half_life=0.0), EVENTS, CORPUS, queries=TASTES)
    params = init(recipe.model)
    assert isinstance(recipe.served(params), TwoTower)
    assert recipe.candidate_embeddings(params).shape == (20, 33)


@pytest.mark.parametrize("temperature", [1.0, 0.25])
def test_scores_of_answers_differ_from_those_of_training_by_the_shift(temperature):
    recipe = prepare(config(temperature=temperature), EVENTS, CORPUS, queries=TASTES)
    params = init(recipe.model)
    rows = recipe.encoding.queries.rows(np.array([3, 70]))
    trained = bind(recipe.model, params)
    before = trained.query(rows) @ trained.candidate(recipe.encoding.corpus_rows).T
    queries, candidates = recipe.query_embeddings(params, np.array([3, 70]), EVENTS), recipe.candidate_embeddings(params)
    shift = plain_shift(EVENTS.query_ids, EVENTS.candidate_ids, EVENTS.timestamps, 20, 10.0)
    expected = temperature * shift[:, [1, 0]].T
    np.testing.assert_allclose(queries @ candidates.T - before, expected, rtol=1e-4, atol=1e-4)


def test_a_candidate_that_train_does_not_know_gains_nothing_with_features_and_without():
    corpus = Table(np.arange(22), {"kind": np.array(["x"] * 22)})
    made = config()
    for features in ((Feature(column="id"),), (Feature(column="id"), Feature(column="kind"))):
        made.model.candidate.features = features
        recipe = prepare(made, EVENTS, corpus, queries=TASTES)
        assert np.all(recipe.candidate_embeddings(init(recipe.model))[20:, -2:] == 0)


def test_the_search_knows_nothing_of_what_comes_after_train():
    parts = split(EVENTS, "temporal", test_fraction=0.2, validation_fraction=0.2, seed=0)
    made = config()
    shift = prepare(made, parts.train, CORPUS, queries=TASTES).shift
    train = parts.train
    expected = plain_shift(train.query_ids, train.candidate_ids, train.timestamps, 20, 10.0)
    rows = prepare(made, train, CORPUS, parts.all(), TASTES).encoding.corpus_rows
    np.testing.assert_allclose(prepare(made, train, CORPUS, parts.all(), TASTES).shift[rows], expected, rtol=1e-4)
    known = prepare(made, train, CORPUS, queries=TASTES).encoding.corpus_rows
    np.testing.assert_allclose(shift[known], expected, rtol=1e-4, atol=1e-6)
    assert not np.allclose(prepare(made, parts.train_and_validation(), CORPUS, queries=TASTES).shift, shift)


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
        model=recipe.served(params),
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
        (config(half_life=-1.0), EVENTS, "model.prior_half_life must be positive, or 0 for none, got -1.0"),
        (config(name="bpr"), EVENTS, "in_batch_softmax.*full_softmax.*bpr"),
        (config(), Interactions(PAIRS[:, 0], PAIRS[:, 1]), "no timestamps; set data.columns.timestamp"),
    ],
)
def test_what_has_no_recent_prior_is_refused(made, events, message):
    with pytest.raises(ValueError, match=message):
        prepare(made, events, CORPUS, queries=TASTES)
