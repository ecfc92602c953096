"""What is sent to a worker process comes back the same there, or is refused before it is sent."""

import dataclasses
import multiprocessing
import pickle

import numpy as np
import pytest
from bundle_cases import CORPUS, EVERYBODY, QUERIES, TRAIN, save

from retrieval.config.schema import Config
from retrieval.index import Filter
from retrieval.serving import bundle


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save(tmp_path_factory.mktemp("pickled") / "bundle")


def same(answer, other):
    np.testing.assert_array_equal(answer.ids, other.ids)
    np.testing.assert_array_equal(answer.scores, other.scores)
    np.testing.assert_array_equal(answer.titles, other.titles)


def test_a_loaded_bundle_is_pickled_by_its_folder(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    loaded = bundle.load("bundle")
    content = pickle.dumps(loaded)
    monkeypatch.chdir("/")
    assert len(content) < 500
    same(pickle.loads(content).recommend(EVERYBODY, 3), loaded.recommend(EVERYBODY, 3))


def test_a_bundle_that_was_exported_anew_is_not_taken_for_the_one_that_was_pickled(tmp_path):
    content = pickle.dumps(bundle.load(save(tmp_path / "bundle")))
    save(tmp_path / "bundle", scale=2.0)
    with pytest.raises(ValueError, match="another bundle than the one that was pickled"):
        pickle.loads(content)


def test_a_bundle_in_memory_is_refused_before_it_is_sent(folder):
    with pytest.raises(TypeError, match="in memory alone cannot be pickled; save a bundle"):
        pickle.dumps(dataclasses.replace(bundle.load(folder), folder=None))


def recommend(recommender):
    return recommender.recommend("ann", 3)


@pytest.mark.slow
def test_a_worker_that_is_started_anew_answers_the_same(folder):
    loaded = bundle.load(folder)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        (answer,) = pool.map(recommend, [loaded])
    same(answer, loaded.recommend("ann", 3))


def test_answers_data_and_settings_are_pickled_whole(folder):
    loaded = bundle.load(folder)
    answer = loaded.recommend(EVERYBODY, 3, filter=Filter({"genres": ["War"]}))
    same(pickle.loads(pickle.dumps(answer)), answer)
    same(pickle.loads(pickle.dumps(loaded.similar(10, 2))), loaded.similar(10, 2))
    for value in (Filter({"genres": ["War"]}, {"year": (1980, None)}), Config()):
        assert pickle.loads(pickle.dumps(value)) == value
    for table in (CORPUS, QUERIES):
        assert pickle.loads(pickle.dumps(table)).ids.tolist() == table.ids.tolist()
    assert pickle.loads(pickle.dumps(TRAIN)).candidate_ids.tolist() == TRAIN.candidate_ids.tolist()
    assert pickle.loads(pickle.dumps(loaded.queries)).rows(["bob"]).tolist() == loaded.queries.rows(["bob"]).tolist()
    live = loaded.live_index()
    searched = [
        index.search(loaded.embeddings[:1], 2).ids.tolist() for index in (live, pickle.loads(pickle.dumps(live)))
    ]
    assert searched[0] == searched[1]
