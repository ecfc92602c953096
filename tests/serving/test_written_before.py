"""Files that an earlier version wrote still load: a bundle, three indexes and a checkpoint of commit e2e0748.

`written_before.tar.gz` holds them beside `answers.json`, what that version answered from them. The bundle is of towers
with histories, features of both sides, the time of the request and an EASE model beside them.
"""

import json
import tarfile

import jax
import numpy as np
import pytest
from written_cases import ARCHIVE, deep, everything, state_of, with_history

import retrieval
from retrieval.index import load as load_index
from retrieval.models.history import ENCODERS
from retrieval.training.checkpoint import Checkpoints


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("written")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def answers(written):
    return json.loads((written / "answers.json").read_text())


def test_a_bundle_answers_as_it_did(written, answers):
    recommender = retrieval.load(written / "bundle")
    expected = answers["bundle"]
    answer = recommender.recommend(expected["users"], 7)
    np.testing.assert_array_equal(answer.ids, expected["ids"])
    np.testing.assert_allclose(answer.scores, expected["scores"], rtol=1e-5)
    answer = recommender.recommend(history=[8, 16, 3], k=5)
    np.testing.assert_array_equal(answer.ids, answers["history"]["ids"])
    np.testing.assert_allclose(answer.scores, answers["history"]["scores"], rtol=1e-5)


@pytest.mark.parametrize("kind", ["exact", "hnsw"])
def test_an_index_answers_as_it_did(written, answers, kind):
    scores, positions = load_index(written / "indexes" / kind).search(np.load(written / "queries.npy"), 4)
    np.testing.assert_array_equal(positions, answers[kind]["positions"])
    np.testing.assert_allclose(scores, answers[kind]["scores"], rtol=1e-6)


def test_a_live_index_answers_as_it_did(written, answers):
    answer = retrieval.LiveIndex.load(written / "indexes/live").search(np.load(written / "queries.npy"), 4)
    np.testing.assert_array_equal(answer.ids, answers["live"]["ids"])
    np.testing.assert_allclose(answer.scores, answers["live"]["scores"], rtol=1e-6)


def test_a_checkpoint_restores_the_parameters_it_had(written, answers):
    with Checkpoints(written / "checkpoints", "written-before") as checkpoints:
        restored = checkpoints.last(state_of(everything()))
    assert restored.state.step == 7 and [record["epoch"] for record in restored.history] == [0, 1, 2, 3]
    parameters = {
        jax.tree_util.keystr(path): [list(leaf.shape), float(np.asarray(leaf, np.float64).sum())]
        for path, leaf in jax.tree_util.tree_leaves_with_path(restored.state.params)
    }
    assert parameters == answers["parameters"]


@pytest.mark.parametrize("name", ["deep", *ENCODERS])
def test_a_state_has_the_arrays_that_its_checkpoints_had(written, name):
    state = state_of(deep() if name == "deep" else with_history(name))
    shapes = {
        jax.tree_util.keystr(path): [list(leaf.shape), str(leaf.dtype)]
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }
    assert shapes == json.loads((written / "shapes.json").read_text())[name if name != "deep" else "mlp and cross"]
