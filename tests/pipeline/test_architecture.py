"""Towers from the config and tables: what each entity is embedded as, what training takes, and what is refused."""

import jax
import numpy as np
import pytest
from tower_cases import AGE, CORPUS, GENRES, HOUR, ID, PEOPLE, YEAR, Feature, config, interactions, moved, recipe

from retrieval.config.checks import SOFTMAXES
from retrieval.config.schema import Config
from retrieval.data.interactions import Interactions, Table
from retrieval.models.binding import flatten_params, init
from retrieval.objectives import OBJECTIVES
from retrieval.pipeline.recipe import prepare
from retrieval.training.epochs import fit
from retrieval.training.held_out_loss import mean_loss

CLOSE = {"rtol": 1e-4, "atol": 1e-5}
NOTHING = interactions().take(slice(0, 0))


def table_of(params, path):
    return np.asarray(flatten_params(params)[f"{path}/table/embedding"])


def outputs_of(made, params, rows, side="candidate"):
    """Returns the tower's outputs, without the dimension of the offset."""
    if side == "candidate":
        return np.asarray(made.candidate_embeddings(params))[rows, :4]
    return np.asarray(made.query_embeddings(params, rows, NOTHING))[:, :4]


def test_candidates_are_the_sum_of_their_id_and_features_cold_ones_of_the_unknown_id_and_their_own_features():
    made = recipe([ID], [ID, GENRES, YEAR])
    params = moved(made.model)
    found = outputs_of(made, params, np.arange(11))
    ids, genres = (table_of(params, f"candidate_tower/features/{name}") for name in ("id", "genres"))
    assert ids.shape == (10, 4) and genres.shape == (4, 4)
    kernel = np.asarray(params["candidate_tower"]["features"]["year"]["linear"]["kernel"])
    known = {"Comedy": 1, "Drama": 2, "War": 3}
    years = CORPUS.columns["year"]
    mean, deviation = np.nanmean(years[:9]), np.nanstd(years[:9])  # of those that train knows
    for i in range(11):
        rows = [known[g] for g in str(CORPUS.columns["genres"][i]).split("|") if g] or [0]
        year = [0, 1] if np.isnan(years[i]) else [(years[i] - mean) / deviation, 0]
        expected = ids[i + 1 if i < 9 else 0] + genres[rows].mean(axis=0) + np.array(year) @ kernel
        np.testing.assert_allclose(found[i], expected, **CLOSE)
    assert not np.allclose(found[9], found[10])


def test_a_cold_candidate_without_features_is_the_unknown_one():
    made = recipe([ID], [ID])
    assert made.encoding.candidates.num_entities == 10
    found = outputs_of(made, moved(made.model), np.arange(11))
    assert np.array_equal(found[9], found[10]) and not np.allclose(found[8], found[9])


def test_the_prior_of_a_cold_candidate_is_that_of_one_that_nobody_chose():
    made = recipe([ID], [ID, GENRES])
    prior = np.asarray(made.model.log_prior[...])
    assert prior.shape == (12,) and prior[10:].tolist() == [prior[0]] * 2 and np.all(prior[1:10] > prior[0])


def test_new_queries_have_features_and_nobody_has_none():
    made = recipe([ID, AGE], [ID])
    params = moved(made.model)
    known, new, nobody = outputs_of(made, params, np.array([0, 6, 777]), "query")
    ids = table_of(params, "query_tower/features/id")
    kernel = np.asarray(params["query_tower"]["features"]["age"]["linear"]["kernel"])
    ages = PEOPLE.columns["age"][:6]
    standard = (np.array([20.0, 25.0]) - np.nanmean(ages)) / np.nanstd(ages)
    np.testing.assert_allclose(known, ids[1] + standard[0] * kernel[0], **CLOSE)
    np.testing.assert_allclose(new, ids[0] + standard[1] * kernel[0], **CLOSE)
    np.testing.assert_allclose(nobody, ids[0] + kernel[1], **CLOSE)


def test_statistics_are_of_train_alone():
    columns = {name: column.copy() for name, column in CORPUS.columns.items()}
    columns["genres"] = np.array([*columns["genres"][:9], "never in train", "Drama"])
    columns["year"][9:] = 9e9
    settings = config([ID], [ID, GENRES, YEAR])
    made = prepare(settings, interactions(), Table(CORPUS.ids, columns))
    plain = prepare(settings, interactions(), CORPUS)
    assert made.architecture.candidate_features == plain.architecture.candidate_features


def test_the_time_of_a_request_is_read_from_the_example_or_is_the_end_of_train():
    made = recipe([ID, HOUR, Feature("timestamp", "buckets", size=3)], [ID])
    assert made.context.names == ("timestamp/periodic", "timestamp/buckets", "timestamp/buckets/weights")
    assert {name: len(c) for name, c in made.examples.context.items()} == dict.fromkeys(made.context.names, 40)
    params, train = moved(made.model), interactions()
    last = np.full(1, train.timestamps.max())
    ids = np.array([3])
    at_last, at_none, earlier = (made.query_embeddings(params, ids, NOTHING, t) for t in (last, None, last - 40_000))
    assert np.array_equal(at_last, at_none) and not np.allclose(at_last, earlier)
    held_out = made.held_out_examples(train, NOTHING)
    for name, column in made.examples.context.items():
        np.testing.assert_array_equal(column, held_out.context[name])


def test_hashed_ids_stand_beside_the_row_or_in_its_place():
    hashed = Feature("id", size=50, hashes=2)
    both, alone = recipe([ID], [ID, hashed]), recipe([ID], [hashed])
    for made, names in ((both, {"id", "id/category"}), (alone, {"id/category"})):
        assert set(init(made.model)["candidate_tower"]["features"]) == names
        found = outputs_of(made, moved(made.model), np.arange(11))
        assert not np.allclose(found[9], found[10])  # an open vocabulary: new ids have rows too
    table = table_of(moved(alone.model), "candidate_tower/features/id/category")
    assert table.shape == (50, 4)


def test_one_column_may_be_several_features():
    made = recipe([ID], [YEAR, ID, Feature("year", "buckets", size=3), Feature("year", "buckets", size=2), GENRES])
    names = {"id", "year/number", "year/buckets", "year/buckets/2", "genres"}
    assert set(init(made.model)["candidate_tower"]["features"]) == names
    assert made.model.candidate_tower.names == ("year/number", "id", "year/buckets", "year/buckets/2", "genres")


@pytest.mark.parametrize(
    ("query", "candidate", "history", "train", "message"),
    [
        ([ID], [], {}, {}, "model.candidate.features is empty"),
        ([], [ID], {}, {}, "a query tower needs one of them"),
        ([ID], [ID, ID], {}, {}, "the feature 'id' is given 2 times; give it once"),
        ([ID], [GENRES, GENRES], {}, {}, "feature 'genres' of kind 'bag' is listed twice"),
        ([ID], [Feature("genre", "bag")], {}, {}, "no column 'genre' for a feature.*did you mean 'genres'"),
        ([Feature("genres")], [ID], {}, {}, "no column 'genres' for a feature, only 'id', 'age'"),
        ([ID], [HOUR], {}, {}, "no column 'timestamp' for a feature"),
        ([ID, HOUR], [ID], {}, {"times": False}, "is the timestamp, and the interactions have none"),
        ([ID], [ID], {"encoder": "mean", "inputs": ("gaps",)}, {"times": False}, "inputs has 'gaps'"),
        ([ID], [ID], {"encoder": "mean", "inputs": ("ages",)}, {"times": False}, "inputs has 'ages'"),
        ([ID], [ID], {"encoder": "mean", "inputs": ("ratings",)}, {"ratings": False}, "inputs has 'ratings'"),
        (
            [ID],
            [ID],
            {"encoder": "mean", "length": -1},
            {},
            "model.history.length must be 0 or more",
        ),
        ([ID], [ID], {"encoder": "bert"}, {}, "model.history.encoder must be one of .*got 'bert'"),
    ],
)
def test_what_cannot_be_made_is_refused_with_the_reason(query, candidate, history, train, message):
    with pytest.raises(ValueError, match=message):
        recipe(query, candidate, train=interactions(**train), **history)


def test_a_precision_a_dimension_and_weights_that_are_not_there_are_refused():
    settings = config([ID])
    settings.model.precision = "float8"
    with pytest.raises(ValueError, match="model.precision must be one of 'float32', .*'bfloat16', got 'float8'"):
        prepare(settings, interactions(), CORPUS)
    settings = config([ID])
    settings.model.embedding_dimension = 0
    with pytest.raises(ValueError, match="model.embedding_dimension must be 1 or more, at most 65,536, got 0"):
        prepare(settings, interactions(), CORPUS)
    settings = config([ID])
    settings.loss.rating_weight = 0.5
    with pytest.raises(ValueError, match="the interactions have no ratings"):
        prepare(settings, interactions(ratings=False), CORPUS)


def test_a_history_without_times_is_in_the_order_of_the_file_and_hstu_reads_no_times():
    made = recipe([], [ID], train=interactions(times=False), encoder="hstu")
    assert made.context.names == ("history",)
    assert recipe([], [ID], encoder="hstu").context.names == ("history", "history_times")


def test_ages_count_from_the_first_time_of_each_candidate_in_train():
    train = Interactions(np.array([1, 1, 2, 2]), np.array([7, 8, 8, 7]), timestamps=np.array([50, 90, 60, 80]))
    made = recipe([], [ID], train=train, encoder="mean", inputs=("ages",))
    assert made.context.names == ("history", "history_ages")
    windows = dict(zip(made.examples.query_rows.tolist(), made.examples.context["history_ages"], strict=True))
    assert windows[made.encoding.queries.rows([1])[0]][-2:].tolist() == [0, 30]
    assert windows[made.encoding.queries.rows([2])[0]][-2:].tolist() == [0, 30]


@pytest.mark.parametrize(("lengths", "expected"), [([3] * 20, 10), ([5] * 10 + [40] * 90, 40), ([999] * 3, 200)])
def test_the_automatic_length_holds_nine_histories_in_ten(lengths, expected):
    owners = np.repeat(np.arange(len(lengths)), lengths)
    made = recipe([], [ID], train=Interactions(owners, owners % 9), encoder="mean", length=0)
    assert made.context.length == expected


@pytest.mark.parametrize(
    "history",
    [{}, pytest.param({"encoder": "mean", "last": True}, marks=pytest.mark.slow)],
    ids=["rows", "windows"],
)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_each_loss_trains_towers_of_features_with_a_bias(name, history):
    settings = config([ID, AGE, HOUR], [Feature("id", dropout=0.3), GENRES], **history)
    settings.loss.name, settings.loss.remove_known_positives = name, name != "implicit_squared"
    settings.loss.rating_weight = 0.5
    settings.model.candidate_bias = True
    settings.model.popularity_prior = name in SOFTMAXES
    settings.model.temperature = 1.0 if name == "cosine_contrastive" else 0.0
    made = prepare(settings, interactions(), CORPUS, queries=PEOPLE)
    assert made.num_examples == 40
    options = {"batch_size": made.batch_size, "negatives": made.negatives}
    epochs = list(fit(made.model, made.examples, made.loss, made.optimizer, epochs=8, seed=0, **options))
    (_, first), (state, last) = epochs[0], epochs[-1]
    held_out = made.held_out_examples(interactions(seed=1), interactions())
    of_held_out = mean_loss(made.model, state.params, made.loss, held_out, **options)
    assert np.isfinite([first["loss"], of_held_out]).all() and last["loss"] < first["loss"]
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(state.params))
    assert np.any(state.params["candidate_bias"]["embedding"])
    candidates, queries = (
        made.candidate_embeddings(state.params),
        made.query_embeddings(state.params, np.array([0, 6, 777]), interactions()),
    )
    assert candidates.shape == (11, 5) and np.all(np.isfinite(queries @ candidates.T))


@pytest.mark.parametrize("history", [{}, {"encoder": "mean"}], ids=["rows", "windows"])
def test_a_batch_larger_than_the_data_is_all_of_it(history):
    settings = config([ID], **history)
    settings.train.batch_size = 10**6
    made = prepare(settings, interactions(), CORPUS)
    assert made.batch_size == len(made.examples.query_rows)
    options = {"batch_size": made.batch_size, "epochs": 1, "seed": 0, "negatives": made.negatives}
    ((state, _),) = fit(made.model, made.examples, made.loss, made.optimizer, **options)
    assert int(state.step) == 1


def test_a_batch_of_windows_has_about_as_many_targets_as_the_config_asks_for():
    made = recipe([ID], encoder="mean", length=3)
    targets = np.sum(made.examples.candidate_rows >= 0)
    assert targets == 40 and made.batch_size * targets / len(made.examples.query_rows) == pytest.approx(16, abs=2)


def test_queues_and_dislikes_are_refused_beside_histories():
    settings = config([ID], encoder="mean")
    settings.negatives.queue = 8
    with pytest.raises(ValueError, match="negatives.queue is .*neither works with model.history.encoder"):
        prepare(settings, interactions(), CORPUS)


def test_weights_of_ratings_are_those_of_the_examples_or_of_the_targets_of_windows():
    plain, windows = config([ID]), config([ID], encoder="mean")
    for settings in (plain, windows):
        settings.loss.rating_weight = 0.5
    ratings = interactions().ratings
    expected = np.maximum(1 + 0.5 * (ratings - ratings.mean()) / ((ratings.max() - ratings.min()) / 2), 0)
    rows, targets = (prepare(settings, interactions(), CORPUS).examples for settings in (plain, windows))
    np.testing.assert_allclose(rows.weights, expected, rtol=1e-5)
    weights = targets.weights[targets.candidate_rows >= 0]
    np.testing.assert_allclose(np.sort(weights), np.sort(expected), rtol=1e-5)
    assert not targets.weights[targets.candidate_rows < 0].any()


def test_dislikes_are_in_no_history_and_no_target():
    settings = config([ID], encoder="mean", length=50)
    settings.data.dislike_at_most = 2.0
    train = interactions()
    liked = train.take(train.ratings > 2)
    made = prepare(settings, train, CORPUS)
    assert made.num_examples == len(liked)
    history = made.columns(np.array([0]), train)["history"][0]
    mine = liked.take(liked.query_ids == 0)
    mine = mine.candidate_ids[np.argsort(mine.timestamps, kind="stable")]
    assert history[history > 0].tolist() == made.encoding.candidates.rows(mine).tolist()


def test_dislikes_alone_are_refused():
    settings = config([ID])
    settings.data.dislike_at_most = 5.0
    with pytest.raises(ValueError, match="none of the 40 interactions of train is an example: data.dislike_at_most is"):
        prepare(settings, interactions(), CORPUS)


def test_the_default_towers_are_embeddings_of_ids():
    made = prepare(Config(), interactions(), CORPUS)
    shapes = {path: leaf.shape for path, leaf in flatten_params(init(made.model)).items()}
    assert shapes == {
        "query_tower/features/id/table/embedding": (7, 32),
        "candidate_tower/features/id/table/embedding": (10, 32),
    }
