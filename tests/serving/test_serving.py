"""A bundle of towers with histories, features and the time of the request answers as the model did."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from program_cases import started

from retrieval.common.lists import Lists
from retrieval.config.schema import Addition, Config, Feature
from retrieval.data.dataset import Dataset
from retrieval.data.interactions import Interactions, Table
from retrieval.data.published import synthetic
from retrieval.data.sequences import Histories
from retrieval.data.splits import split
from retrieval.features.context import QueryContext
from retrieval.index import HnswIndex
from retrieval.models.binding import bind, init
from retrieval.models.history import ENCODERS
from retrieval.pipeline.export_trained import export_trained
from retrieval.pipeline.recipe import prepare
from retrieval.pipeline.trained import FINAL, ChosenEpoch, Trained
from retrieval.ranking.topk import top_k
from retrieval.serving import bundle
from retrieval.serving.exports import savedmodel

ROOT = pathlib.Path(__file__).parents[2]
LENGTH, K = 5, 7
COLD, NOBODY = 105, 999  # a query that has features and is not in train, and one of which nothing is known
KNOWN = [0, 3, 17]


def make_dataset():
    """Returns 30 queries with ratings that are not all known, and tables of which train has not seen all rows."""
    events, corpus = synthetic.load()
    places = np.arange(len(events))
    kept = (events.query_ids < 30) & (places % 3 < 1 + events.query_ids % 3)
    events = Interactions(events.query_ids, events.candidate_ids, 1 + places % 9 / 2, events.timestamps)
    events = events.with_unknown_ratings(places % 7 == 0).take(kept)
    ids = np.append(np.arange(30), [COLD, 106])
    queries = Table(ids, {"age": ids % 50, "city": np.array(["Ulm", "Kiel", ""])[ids % 3]})
    corpus = Table(corpus.ids, corpus.columns | {"group": corpus.ids % 8})
    parts = split(events, "leave_last_out", test_fraction=0.1, validation_fraction=0.0, seed=0)
    return Dataset(parts, corpus, queries, 0)


DATASET = make_dataset()
TRAIN = DATASET.parts.train
CORPUS = DATASET.corpus
NEVER_TRAINED = np.setdiff1d(CORPUS.ids, TRAIN.candidate_ids)[:2].tolist()
ID = (Feature("id"),)
TIME = (Feature("timestamp", "periodic", size=2, period=86400.0), Feature("timestamp", "category", size=9, hashes=2))
TABLE = (Feature("age", "number"), Feature("city"))
GROUP = (Feature("group"),)


def config_of(query=(), candidate=ID, **history):
    config = Config()
    config.model.embedding_dimension = 8
    config.model.query.features, config.model.candidate.features = query, candidate
    config.model.history.length = LENGTH
    for name, value in history.items():
        setattr(config.model.history, name, value)
    config.index.hnsw.ef = len(CORPUS)  # the search is exact then
    return config


WITH_HISTORY = {name: config_of(encoder=name, layers=2, heads=2) for name in ENCODERS} | {
    "everything": config_of(
        ID + TABLE + TIME, ID + GROUP, encoder="transformer", inputs=("ratings", "gaps", "ages"), last=True
    ),
    "hstu with gaps": config_of(ID, ID + GROUP, encoder="hstu", inputs=("gaps",), dropout=0.5),
}
CONFIGS = WITH_HISTORY | {"features": config_of(ID + TABLE, ID + GROUP), "time": config_of(ID + TIME)}
CONFIGS["everything"].model.additions = (Addition("ease", arguments={"rank": 4}),)
WITH_HISTORY_AND_TIME = {"everything", "hstu", "hstu with gaps"}


class Served:
    """A model with parameters off their initial values, and the recommender of its bundle."""

    def __init__(self, config, folder):
        self.recipe = prepare(config, TRAIN, CORPUS, queries=DATASET.queries)
        leaves, tree = jax.tree.flatten(init(self.recipe.model))
        rng = np.random.default_rng(0)
        self.params = tree.unflatten([leaf + rng.normal(0, 0.3, leaf.shape).astype(leaf.dtype) for leaf in leaves])
        self.embeddings = np.asarray(self.recipe.candidate_embeddings(self.params))
        index = HnswIndex.build(self.embeddings, M=8, ef_construction=50, ef=len(CORPUS), seed=0)
        trained = Trained(self.recipe, self.params, TRAIN, ChosenEpoch(FINAL, 0))
        self.folder = folder / "bundle"
        export_trained(config, DATASET, trained, index, self.folder, metrics={}, intervals={})
        self.recommender = bundle.load(self.folder)

    def check(self, answer, query_ids, before=TRAIN, times=None, excluded=None):
        """Checks that an answer is that of the model with exact search, nothing excluded unless it is said."""
        queries = self.recipe.query_embeddings(self.params, np.asarray(query_ids), before, times)
        scores, positions = top_k(queries, self.embeddings, K, excluded)
        np.testing.assert_allclose(answer.scores, scores, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(answer.positions, positions)


@pytest.fixture(scope="module")
def servings(tmp_path_factory):
    made = {}

    def get(name):
        if name not in made:
            made[name] = Served(CONFIGS[name], tmp_path_factory.mktemp("run"))
        return made[name]

    return get


QUICK = ("everything", "gru", "mean")  # the others are slow only because they are many


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS]
)
def test_queries_are_answered_as_by_the_model(servings, name):
    served, query_ids = servings(name), [*KNOWN, COLD, NOBODY]
    seen = Lists.from_sequences([CORPUS.positions(TRAIN.candidate_ids[TRAIN.query_ids == i]) for i in query_ids])
    answer = served.recommender.recommend(query_ids, K)
    served.check(answer, query_ids, excluded=seen)
    assert answer.known.tolist() == [True, True, True, False, False]
    for query_id in (KNOWN[1], COLD):
        one = served.recommender.recommend([query_id], K, exclude_seen=False)
        served.check(one, [query_id])


def test_a_query_that_train_has_not_is_told_by_its_features(servings):
    for name, differ in (("features", True), ("gru", False)):
        answer = servings(name).recommender.recommend([COLD, NOBODY], K)
        assert np.array_equal(answer.positions[0], answer.positions[1]) != differ


@pytest.mark.parametrize("name", WITH_HISTORY)
def test_a_given_history_is_answered_as_by_the_model(servings, name):
    served, recommender = servings(name), servings(name).recommender
    histories = [[8, 16, 3], [], [1, 2, 3, 4, 5, 6, 7, 8]]
    before = Interactions(np.repeat([901, 902, 903], [3, 0, 8]), np.concatenate(histories).astype(int))
    answer = recommender.recommend(history=histories, k=K, exclude_seen=False)
    served.check(answer, [901, 902, 903], before)
    assert not answer.known.any()
    assert not np.array_equal(answer.scores[0], answer.scores[2])
    one = recommender.recommend([KNOWN[0]], K, history=[[8, 16, 3]], exclude_seen=False)
    served.check(one, [KNOWN[0]], Interactions([KNOWN[0]] * 3, [8, 16, 3]))
    assert one.known.tolist() == [True]
    served.check(recommender.recommend([COLD], K, history=[[]], exclude_seen=False), [COLD])


def test_what_nothing_is_known_of_is_no_part_of_a_history(servings):
    recommender, unknown = servings("transformer").recommender, [NEVER_TRAINED[0], 8, 12345, 16, 3, 12345]
    known = recommender.recommend(history=[[8, 16, 3]], k=K, exclude_seen=False)
    answer = recommender.recommend(history=[unknown], k=K, exclude_seen=False)
    np.testing.assert_array_equal(answer.positions, known.positions)


def test_a_history_of_candidates_that_train_does_not_know_is_answered(servings):
    answer = servings("hstu with gaps").recommender.recommend(history=[NEVER_TRAINED], k=K)
    assert np.isfinite(answer.scores).all()


def test_a_candidate_with_features_alone_counts_in_a_history_of_shared_items(servings):
    recommender = servings("everything").recommender
    answers = [recommender.recommend(history=[ids], k=K, exclude_seen=False) for ids in ([8], [8, NEVER_TRAINED[0]])]
    assert not np.allclose(answers[0].scores, answers[1].scores)


def test_a_given_history_is_left_out_of_the_answer_with_what_is_seen(servings):
    recommender = servings("mean").recommender
    first = recommender.recommend([KNOWN[0], NOBODY], K, history=[[8], [8]], exclude_seen=False).ids
    history = [[*first[0, :2]], [NEVER_TRAINED[0], *first[1, 1:3]]]
    answer = recommender.recommend([KNOWN[0], NOBODY], len(CORPUS), history=history)
    seen = TRAIN.candidate_ids[TRAIN.query_ids == KNOWN[0]]
    left_out = [np.setdiff1d(np.arange(len(CORPUS)), positions) for positions in answer.positions]
    left_out = [CORPUS.ids[positions] for positions in left_out]
    assert set(left_out[0]) == {*seen, *history[0]} and set(left_out[1]) == set(history[1])


@pytest.mark.parametrize("name", ["time", "everything"])
def test_the_time_of_the_request_counts(servings, name):
    served, query_ids = servings(name), [*KNOWN, COLD]
    times = served.recipe.context.now + np.array([0, 3600, 40000, -5 * 86400])
    answer = served.recommender.recommend(query_ids, K, times=times.tolist(), exclude_seen=False)
    served.check(answer, query_ids, times=times)
    now = served.recommender.recommend(query_ids, K, exclude_seen=False)
    assert np.allclose(answer.scores[0], now.scores[0], atol=1e-5)
    assert not np.allclose(answer.scores[1:], now.scores[1:], atol=1e-5)


@pytest.mark.parametrize("name", WITH_HISTORY)
def test_a_bundle_keeps_of_histories_what_the_tower_reads(servings, name):
    histories = servings(name).recommender.histories
    assert histories.lists.lengths.max() == LENGTH and len(histories.lists[0]) == 0
    assert len(histories.lists) == servings(name).recipe.encoding.queries.num_entities
    assert (histories.ratings is not None) == (name == "everything")
    assert (histories.times is not None) == (name in WITH_HISTORY_AND_TIME)


def test_a_single_query_is_answered_as_one_of_many(servings):
    recommender = servings("everything").recommender
    for arguments, one in (({"user_id": 3}, {"user_id": [3]}), ({"history": [8, 16]}, {"history": [[8, 16]]})):
        answer = recommender.recommend(**arguments, k=4, times=1_700_000_000)
        many = recommender.recommend(**one, k=4, times=[1_700_000_000])
        assert answer.ids.shape == (4,) and answer.ids.tolist() == many.ids[0].tolist()
    given = {"history": [8, 16], "features": {"age": 3}}
    answer = recommender.recommend(NOBODY, 4, **given)
    many = recommender.recommend(history=[[8, 16]], features=[{"age": 3}], k=4)
    np.testing.assert_array_equal(answer.ids, many.ids[0])
    assert not np.allclose(answer.scores, recommender.recommend(NOBODY, 4, history=[8, 16]).scores)


def test_verification_finds_nothing(servings):
    for name in ("everything", "hstu with gaps", "time"):
        assert [finding for finding in bundle.inspect(servings(name).folder) if finding.problems] == []


def test_no_queries_get_no_answers(servings):
    for name in ("everything", "features"):
        assert servings(name).recommender.recommend([], 3).ids.shape == (0, 3)
    assert servings("everything").recommender.recommend(history=[], k=3).ids.shape == (0, 3)


def test_a_history_is_refused_where_none_is_read(servings):
    with pytest.raises(ValueError, match="history was given for 1 queries, and the query tower reads none"):
        servings("features").recommender.recommend([3], history=[[8]])


def test_arguments_that_do_not_go_together_are_refused(servings):
    recommender = servings("mean").recommender
    with pytest.raises(ValueError, match="user_id, history or features is needed, received none"):
        recommender.recommend()
    with pytest.raises(ValueError, match="history needs one list per query, got 2 for 1 queries"):
        recommender.recommend([3], history=[[8], [9]])
    with pytest.raises(ValueError, match="times needs one time per query, got 2 for 1 queries"):
        recommender.recommend([3], times=[1, 2])
    with pytest.raises(ValueError, match="ids are <U1, the first 'a', but the known ids are int64"):
        recommender.recommend(history=[["a"]])
    for times in (float("nan"), 10**30, "today", [1.0, float("inf")], 1_700_000_000_000, -1, ["2024-01-01", None]):
        with pytest.raises(ValueError, match="times.*(Unix seconds|drop the row)"):
            recommender.recommend([3, 3], times=times)


def test_loading_and_answering_need_no_model_code(servings):
    code = f"""
import sys
for name in ("flax", "optax", "orbax", "pyarrow", "retrieval.models", "retrieval.pipeline.recipe"):
    sys.modules[name] = None  # an import of it fails
import retrieval
recommender = retrieval.load({str(servings("everything").folder)!r})
print(recommender.recommend([3], 4).ids.shape, recommender.recommend(history=[[8, 16]], times=[0]).ids.shape)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.split("\n")[0] == "(1, 4) (1, 10)", result.stderr


def test_arguments_of_other_types_are_refused_in_words(servings):
    code = f"""
import retrieval
recommend = retrieval.load({str(servings("features").folder)!r}).recommend
live = retrieval.LiveIndex.build([1, 2], retrieval.ExactIndex.build([[1, 0], [0, 1]]))
for call in (
    lambda: recommend(3, 2.5),
    lambda: recommend(3, "10"),
    lambda: recommend(3, filter={{"deny": [8]}}),
    lambda: live.search([[1, 1]], 1, filter={{"deny": [8]}}),
    lambda: recommend(features=3),
    lambda: recommend(features="age"),
    lambda: recommend(features=[3]),
    lambda: recommend(features={{3: 4}}),
    lambda: recommend(history=5),
    lambda: recommend(history={{8}}),
    lambda: recommend([3], exclude=5),
    lambda: retrieval.Filter(one_of=None),
    lambda: retrieval.HnswIndex.build([[1, 0]], M=8, ef_construction=9, ef=9, seed=0, threads=1.5),
):
    try:
        print(call())
    except ValueError as error:
        print(str(error)[:35])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert result.stdout.splitlines() == [
        "k must be an integer, got 2.5",
        "k must be an integer, got '10'",
        *["filter must be a retrieval.Filter, "] * 2,
        *["features must be a mapping of colum"] * 3,
        "no column 3 in the table, only 'age",
        *["history must be a list of ids, or a"] * 2,
        "exclude must be a list of ids, or a",
        "one_of must be a mapping by column,",
        "threads must be an integer, at leas",
    ], result.stderr


def recommend(folder, *arguments):
    result = started("recommend", f"--bundle={folder}", *arguments)
    return result.stdout if result.returncode == 0 else result.stderr


def test_the_program_takes_a_history(servings):
    folder = servings("gru").folder
    expected = servings("gru").recommender.recommend(history=[[8, 16]], k=3)
    lines = recommend(folder, "--history=8,12345,16", "--k=3").splitlines()
    assert lines[0] == "not in the vocabulary, left out of the history: 12345"
    assert [line.split("  ")[-1] for line in lines[1:]] == expected.titles[0].tolist()


def test_the_program_tells_what_it_does_not_know(servings):
    output = recommend(servings("features").folder, f"--user_id={COLD}", "--k=2")
    assert f"{COLD} is not in train: this is the answer to its features" in output
    assert "error: --user_id, --history, --features or --similar_to is needed" in recommend(servings("features").folder)
    assert "error: history was given" in recommend(servings("features").folder, "--history=8")
    assert "error: ids of this vocabulary are integers, got 'x'" in recommend(servings("gru").folder, "--history=8,x")


@pytest.mark.parametrize("name", ["gru", "everything", "time", "features"])
def test_a_context_comes_back_from_disk_as_it_was(servings, name):
    context = servings(name).recipe.context
    assert QueryContext.from_json(context.to_json()) == context


@pytest.mark.parametrize("text", ["[]", "{}", "nonsense", '{"names": [], "encoders": {"hour": {"kind": "clock"}}}'])
def test_a_damaged_context_is_refused(text):
    with pytest.raises(ValueError, match="not a query context"):
        QueryContext.from_json(text)


def test_a_context_with_an_unknown_field_is_refused():
    fields = json.loads(QueryContext().to_json()) | {"later": 1}
    with pytest.raises(ValueError, match="not a query context.*later"):
        QueryContext.from_json(json.dumps(fields))


@pytest.mark.parametrize(("name", "histories"), [("gru", None), ("features", Histories(Lists.empty(33)))])
def test_histories_are_saved_where_they_are_read(servings, tmp_path, name, histories):
    served = servings(name)
    with pytest.raises(ValueError, match="the query tower reads .*histor.*, received"):
        bundle.save(
            tmp_path / "bundle",
            model=bind(served.recipe.model, served.params),
            queries=served.recommender.queries,
            candidates=served.recommender.candidates,
            corpus=CORPUS,
            seen=served.recommender.seen,
            index=HnswIndex.build(served.embeddings, M=8, ef_construction=50, ef=50, seed=0),
            facts={},
            context=served.recipe.context,
            histories=histories,
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gru", "everything", "hstu with gaps", "time", "features"])
def test_a_saved_model_answers_as_the_bundle_does(servings, tmp_path, name):
    if "CI" not in os.environ:  # there it is an error
        pytest.importorskip("tensorflow", reason="needs the extra: pip install -e '.[tensorflow]'")
    tf, recommender = savedmodel.import_tensorflow(), servings(name).recommender
    savedmodel.from_bundle(servings(name).folder, tmp_path / "saved_model", k=K)
    signatures = tf.saved_model.load(str(tmp_path / "saved_model")).signatures

    def check(signature, expected, **arguments):
        found = signature(**{key: tf.constant(value, tf.int64) for key, value in arguments.items()})
        np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(found["ids"], expected.ids)

    known = [*KNOWN, COLD, NOBODY]
    check(signatures["recommend"], recommender.recommend(known, K), query_id=known)
    assert ("recommend_history" in signatures) == (name not in ("time", "features"))
    if "recommend_history" in signatures:
        histories = [[8, 16, 24], [], [16, 8, 40, 48, 56, 64, 8], NEVER_TRAINED]
        padded = [
            [-1] * (7 - len(history)) + history if len(history) < 3 else history + [-1] * (7 - len(history))
            for history in histories
        ]
        check(signatures["recommend_history"], recommender.recommend(history=histories, k=K), history=padded)
