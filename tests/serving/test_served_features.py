"""Raw features in serving: embeddings of what train has not seen are those that the model's own code makes."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from bundle_cases import CORPUS, EVERYBODY, PARAMS, RECIPE, TRAIN, save
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.config.schema import Config, Feature
from retrieval.data.interactions import Interactions, Table
from retrieval.data.joined_values import join_values
from retrieval.features import TABLE, encode_table
from retrieval.features.entities import EntityFeatures
from retrieval.models.binding import init
from retrieval.pipeline.recipe import prepare
from retrieval.ranking.topk import top_k
from retrieval.serving import bundle

MODEL = RECIPE.bound(PARAMS)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    return bundle.load(save(tmp_path_factory.mktemp("bundles") / "bundle"))


def plain(side, table, rows):
    """The reference: encodes a table as training does, and embeds entities that are not the model's by its tower."""
    encoders = getattr(RECIPE.architecture, f"{side}_features")
    encoded = encode_table(encoders, table, table.ids)
    features = {
        name: type(columns)(*(None if x is None else jnp.asarray(x[1:]) for x in columns))
        for name, columns in encoded.items()
    }
    rows = jnp.asarray(rows)
    outputs = getattr(MODEL, f"{side}_tower").embed(features, rows)
    return np.asarray(MODEL.query_of(outputs) if side == "query" else MODEL.candidate_of(outputs, rows))


NAMES = ["War", "Drama", "Comedy", "never seen", "", " War ", "War|Drama"]
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "genres": st.lists(st.sampled_from(NAMES), max_size=9),
        "year": st.one_of(st.none(), st.floats(-1e6, 1e6), st.integers(1900, 2030), st.just("1999")),
        "title": st.text(max_size=3),
    },
)


@settings(max_examples=12, deadline=None)
@given(st.lists(ROWS, min_size=4, max_size=4))
def test_new_candidates_have_the_embeddings_of_the_models_code(served, rows):
    table = Table(
        np.arange(1000, 1000 + len(rows)),
        {
            "genres": np.array([join_values(raw.get("genres", [])) for raw in rows]),
            "year": np.array([np.nan if raw.get("year") is None else float(raw["year"]) for raw in rows]),
        },
    )
    expected = plain("candidate", table, np.zeros(len(rows), np.int32))
    np.testing.assert_allclose(served.embed_candidates(features=rows), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(served.embed_candidates(features=table), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(served.embed_candidates(features=rows[0]), expected[0], rtol=1e-6, atol=1e-6)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(-5, 200), st.floats(0, 99)), min_size=4, max_size=4))
def test_new_queries_have_the_answers_of_the_models_code(served, ages):
    table = Table(np.arange(len(ages)), {"age": np.array([np.nan if age is None else float(age) for age in ages])})
    vectors = plain("query", table, np.zeros(len(ages), np.int32))
    scores, positions = top_k(vectors, served.embeddings, 3)
    answer = served.recommend(features=[{"age": age} for age in ages], k=3)
    np.testing.assert_allclose(answer.scores, scores, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(answer.positions, positions)
    assert not answer.known.any()


def test_a_tower_with_its_columns_in_it_is_one_of_rows_alone(served, tmp_path):
    columns = served.query_features.of_rows(np.arange(served.queries.num_entities))
    tower = bundle.by_row(bundle.load(save(tmp_path / "bundle")).encode.tower, columns)
    np.testing.assert_allclose(
        tower(jnp.asarray(served.queries.rows(EVERYBODY))), served.embed_queries(EVERYBODY), rtol=1e-6, atol=1e-6
    )


def test_what_is_known_has_the_embeddings_of_the_recipe(served):
    queries = RECIPE.query_embeddings(PARAMS, np.array(EVERYBODY), TRAIN)
    np.testing.assert_allclose(served.embed_queries(EVERYBODY), queries, rtol=1e-6, atol=1e-6)
    candidates = RECIPE.candidate_embeddings(PARAMS)
    np.testing.assert_allclose(served.embed_candidates(CORPUS.ids), candidates, rtol=1e-6, atol=1e-6)
    assert np.array_equal(served.embeddings, candidates)


def test_features_of_a_known_one_replace_those_of_the_table_one_by_one(served):
    table = Table(np.array([10]), {"genres": np.array(["Comedy"]), "year": np.array([1985.0])})
    row = RECIPE.encoding.candidates.rows([10])
    got = served.embed_candidates(10, features={"genres": "Comedy"})
    np.testing.assert_allclose(got, plain("candidate", table, row)[0], rtol=1e-6, atol=1e-6)
    same = served.embed_candidates(10, features={"genres": ["War"], "title": "a column that no feature reads"})
    np.testing.assert_allclose(same, served.embed_candidates(10), rtol=1e-6, atol=1e-6)
    mixed = served.embed_candidates([10, 30, 77], features=[{"genres": "Comedy"}, {}, {"year": 1990}])
    np.testing.assert_allclose(mixed[:2], [got, served.embed_candidates(30)], rtol=1e-6, atol=1e-6)


def test_a_query_in_the_table_and_not_in_train_is_told_by_its_features(served):
    assert np.allclose(served.embed_queries("zoe"), served.embed_queries("nobody", features={"age": 50}), atol=1e-6)
    assert not np.allclose(served.embed_queries("zoe"), served.embed_queries("nobody"))


def test_ids_may_stand_among_the_features(served):
    expected = served.embed_candidates([10, 1234], features=[{"year": 1}, {"year": 2}])
    got = served.embed_candidates(features=[{"id": 10, "year": 1}, {"id": 1234, "year": 2}])
    assert np.array_equal(got, expected)
    assert np.array_equal(served.embed_candidates(features={"id": 10, "year": 1}), expected[0])
    assert np.array_equal(served.embed_candidates(features=Table([10, 1234], {"year": np.array([1, 2])})), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda recommender: recommender.embed_candidates(features={"genre": "War"}),
            "no column 'genre'.*did you mean 'genres'",
        ),
        (lambda recommender: recommender.embed_candidates([1, 2], features=[{}]), "one mapping for each of 2, got 1"),
        (
            lambda recommender: recommender.embed_candidates(features=[{}, {"year": "soon"}]),
            "'year', entity 1: must be a number, got 'soon'",
        ),
        (lambda recommender: recommender.embed_candidates(), "candidate_id, features is needed, received none of them"),
        (lambda recommender: recommender.embed_candidates("ten"), "ids are <U3"),
        (lambda recommender: recommender.recommend(), "user_id, history or features is needed"),
        (lambda recommender: recommender.recommend("ann", history=[10]), "history was given for 1 queries"),
        (lambda recommender: recommender.similar(7), "candidate id 7 is not in the corpus; give its features"),
        (lambda recommender: recommender.score("ann", [10, 11]), "candidate id 11 is not in the corpus"),
    ],
)
def test_what_cannot_be_embedded_is_refused(served, call, message):
    with pytest.raises(ValueError, match=message):
        call(served)


def test_features_are_refused_where_the_tower_reads_none(served):
    bare = dataclasses.replace(served, query_features=EntityFeatures())
    with pytest.raises(ValueError, match="features were given, and the tower of user_id reads none"):
        bare.recommend(features={"age": 3})


def test_no_entities_have_no_embeddings(served):
    assert served.embed_candidates([]).shape == served.embed_candidates(features=[]).shape == (0, 5)
    assert served.embed_queries([], features=[]).shape == (0, 5)


@pytest.mark.slow
def test_all_kinds_of_features_serve_what_train_has_not_seen(tmp_path):
    """A feature of each kind, the hashed id among them, of a candidate in the table of a second data set."""
    features = (
        Feature("id", "category", size=50, hashes=2),
        Feature("genres", "bag", weights="shares", combiner="sum"),
        Feature("year", "buckets", size=3),
        Feature("year", "periodic", size=2, period=10.0),
        Feature("name", "text", size=40, hashes=1),
        Feature("vector", "vector"),
    )
    rng = np.random.default_rng(0)
    columns = {
        "genres": np.array(["a|b", "b", "", "c|a"]),
        "shares": np.array(["1|2", "3", "", "0.5|0.25"]),
        "year": np.array([1.0, 5.0, 8.0, np.nan]),
        "name": np.array(["one two", "two", "three", "a long name of many words"]),
        "vector": rng.normal(size=(4, 3)).astype(np.float32),
    }
    whole = Table(["w", "x", "y", "z"], columns)
    config = Config()
    config.model.embedding_dimension = 4
    config.model.candidate.features = features
    recipe = prepare(config, Interactions([1, 1, 2], ["w", "x", "y"]), whole)
    params = init(recipe.model)
    encoders, candidates = recipe.architecture.candidate_features, recipe.encoding.candidates
    of_rest = EntityFeatures.of_table(
        encoders, Table(whole.ids[:3], {n: c[:3] for n, c in columns.items()}), np.array(["w", "x"])
    )
    (row,) = candidates.rows(["z"])
    raw = {name: column[3] for name, column in columns.items()} | {"id": "z"}
    made = of_rest.of_raw(np.array([0], np.int32), None, raw)
    tower = recipe.bound(params).candidate_tower
    assert set(made) == set(tower.table_columns)
    got = tower(jnp.array([row]), **{name: jnp.asarray(column) for name, column in made.items()})
    np.testing.assert_allclose(got, tower(jnp.array([row])), rtol=1e-6, atol=1e-6)


def test_features_come_back_from_disk_as_they_were(served):
    for features in (served.query_features, served.candidate_features, EntityFeatures()):
        back = EntityFeatures.from_json(features.to_json(), features.arrays())
        assert back.encoders == features.encoders and back.columns == features.columns
        for name, parts in features.encoded.items():
            for found, expected in zip(back.encoded[name], parts, strict=True):
                assert (found is None and expected is None) or np.array_equal(found, expected)


@pytest.mark.parametrize("text", ["[]", "{}", "nonsense", '{"columns": [], "features": [{"name": "x"}]}'])
def test_damaged_features_are_refused(text):
    with pytest.raises(ValueError, match="not features"):
        EntityFeatures.from_json(text, {})


def test_features_without_their_arrays_are_refused(served):
    with pytest.raises(ValueError, match="feature 'genres' does not match its encoder"):
        EntityFeatures.from_json(served.candidate_features.to_json(), {})


def test_a_tower_takes_columns_of_its_table_one_by_one():
    tower = MODEL.candidate_tower
    columns = EntityFeatures.of_table(
        RECIPE.architecture.candidate_features, CORPUS, RECIPE.encoding.candidates.entity_ids
    ).of_rows(np.array([2, 1], np.int32))
    rows = jnp.array([1, 2])
    swapped = tower(rows, **{name: jnp.asarray(column) for name, column in columns.items()})
    year = f"{TABLE}year"
    of_year = tower(rows, **{year: jnp.asarray(columns[year])})
    assert not np.allclose(of_year, tower(rows)) and not np.allclose(of_year, swapped)
    with pytest.raises(ValueError, match="the tower reads the columns"):
        tower(rows, unknown=rows)
