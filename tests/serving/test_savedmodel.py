"""The SavedModel for TensorFlow Serving. Tests marked slow need the extra `tensorflow`."""

import dataclasses
import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import Partial

from retrieval.common.lists import Lists
from retrieval.data.interactions import Table
from retrieval.data.vocabulary import Vocabulary
from retrieval.index import ExactIndex, HnswIndex
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import TwoTower
from retrieval.serving import bundle
from retrieval.serving.exports import savedmodel

NUM_QUERIES, NUM_CANDIDATES, K = 200, 30, 5
IDS = {
    "int": [5 * n - 300 for n in range(NUM_QUERIES - 1)] + [2**62],
    "str": [f"käufer {n}" for n in range(NUM_QUERIES)],
}
OTHERS = {"int": [695], "str": ["kaufer 3"]}  # not in train, with a row of features
BATCHES = {  # of 1 and of 7; the second query of the second one has seen all but one candidate
    "int": [[5], [-300, 2**62, 6, 0, 0, -(2**62), 695]],
    "str": [["käufer 7"], ["käufer 0", "käufer 99", "never seen", "käufer 3", "käufer 3", "nobody", "kaufer 3"]],
}
KNOWN = [[True], [True, True, False, True, True, False, False]]
SERVE = """
import json, sys
sys.modules["jax"] = sys.modules["retrieval"] = None  # a server has neither
import tensorflow as tf
signatures = tf.saved_model.load(sys.argv[1]).signatures
def answer(signature, batch):
    (spec,) = signature.structured_input_signature[1].values()
    found = signature(**{spec.name: tf.constant(batch, spec.dtype)})
    return {key: value.numpy().tolist() for key, value in found.items()}
batches = json.loads(sys.argv[2])
answers = {name: [answer(signature, batch) for batch in batches] for name, signature in signatures.items()}
print(json.dumps(answers, default=bytes.decode))
"""


def create_model():
    def tower(num_rows):
        return IdTower(num_rows, 32, (16,), initial_scale=1.0, rngs=rngs)

    rngs = nnx.Rngs(0)
    model = TwoTower(tower(NUM_QUERIES + 2), tower(NUM_CANDIDATES + 1), np.linspace(-3, -1, NUM_CANDIDATES + 1))
    table = model.query_tower.embedding.embedding
    table[...] = table[...].at[0].set(0.5)  # tells the unknown row's embedding from zeros
    return model


def save_bundle(folder, model, ids, others):
    """Writes a bundle whose query row r has seen r % 4 candidates, the last one all but the candidate 103."""
    queries, rng = Vocabulary(ids, others), np.random.default_rng(0)
    seen = [rng.choice(NUM_CANDIDATES, row % 4, replace=False) for row in range(queries.num_rows)]
    seen[-1] = np.delete(np.arange(NUM_CANDIDATES), 3)
    seen.append([])  # of the other query
    candidate_ids = np.arange(NUM_CANDIDATES) + 100
    titles = np.array([f"Amélie {n}" for n in candidate_ids])
    embeddings = np.asarray(model.candidate(jnp.arange(1, NUM_CANDIDATES + 1)))
    bundle.save(
        folder,
        model=model,
        queries=queries,
        candidates=Vocabulary(candidate_ids),
        corpus=Table(candidate_ids, {"title": titles}),
        seen=Lists.from_sequences(seen),
        index=HnswIndex.build(embeddings, M=8, ef_construction=40, ef=30, seed=0),
        facts={},
    )


def load_exact(folder):
    """The recommender of a bundle with exact search, and its embeddings."""
    embeddings = np.load(folder / bundle.EMBEDDINGS)
    return dataclasses.replace(bundle.load(folder), index=ExactIndex.build(embeddings)), embeddings


@pytest.fixture(scope="module")
def tf():
    if "CI" not in os.environ:  # there it is an error
        pytest.importorskip("tensorflow", reason="needs the extra: pip install -e '.[tensorflow]'")
    return savedmodel.import_tensorflow()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder, model = tmp_path_factory.mktemp("bundles"), create_model()
    for kind, ids in IDS.items():
        save_bundle(folder / kind, model, ids, OTHERS[kind])
    return folder


@pytest.fixture(scope="module", params=IDS)
def served(request, tf, bundles, tmp_path_factory):
    """The kind of ids, the recommender with exact search, and the answers of another process to BATCHES."""
    folder = tmp_path_factory.mktemp("served") / "saved_model"
    savedmodel.from_bundle(bundles / request.param, folder, k=K)
    command = [sys.executable, "-c", SERVE, str(folder), json.dumps(BATCHES[request.param])]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return request.param, load_exact(bundles / request.param)[0], json.loads(result.stdout)


@pytest.mark.slow
def test_embeddings_are_those_of_jax(served):
    kind, recommender, answers = served
    for batch, known, answer in zip(BATCHES[kind], KNOWN, answers["serving_default"], strict=True):
        assert answer.keys() == {"embedding", "known"}
        expected = recommender.encode(recommender.queries.rows(batch))
        np.testing.assert_allclose(answer["embedding"], expected, rtol=1e-5, atol=1e-5)
        assert answer["known"] == known
    np.testing.assert_array_equal(answer["embedding"][2], answer["embedding"][5])  # both unknown
    for other in (0, 6):
        assert np.abs(np.subtract(answer["embedding"][2], answer["embedding"][other])).max() > 0.1


@pytest.mark.slow
def test_recommendations_are_those_of_exact_search(served):
    kind, recommender, answers = served
    for batch, known, answer in zip(BATCHES[kind], KNOWN, answers["recommend"], strict=True):
        assert answer.keys() == {"ids", "titles", "scores", "known"}
        expected = recommender.recommend(batch, K)
        assert answer["ids"] == expected.ids.tolist() and answer["titles"] == expected.titles.tolist()
        np.testing.assert_allclose(answer["scores"], expected.scores, rtol=1e-5, atol=1e-5)
        assert answer["known"] == known
    assert answer["ids"][1] == [103, 0, 0, 0, 0]
    assert answer["titles"][1] == ["Amélie 103", "", "", "", ""]
    assert answer["scores"][1][1:] == [-np.inf] * 4


@pytest.fixture
def saved(tf, bundles, tmp_path):
    savedmodel.from_bundle(bundles / "int", tmp_path / "saved_model", k=NUM_CANDIDATES + 1)
    return tmp_path / "saved_model"


@pytest.mark.slow
def test_signatures_take_any_batch_and_k_ends_with_the_corpus(tf, saved):
    signatures = tf.saved_model.load(str(saved)).signatures
    for signature in signatures.values():
        assert signature.structured_input_signature[1] == {"query_id": tf.TensorSpec([None], tf.int64, "query_id")}
    assert signatures["recommend"].structured_outputs["scores"].shape.as_list() == [None, NUM_CANDIDATES]
    expected = signatures["serving_default"](query_id=tf.range(100, dtype=tf.int64))["embedding"].numpy()
    for size in (0, 1, 2, 3, 4, 5, 8, 9, 100):  # padded to powers of two inside
        found = signatures["serving_default"](query_id=tf.range(size, dtype=tf.int64))["embedding"].numpy()
        np.testing.assert_allclose(found, expected[:size], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_parameters_are_variables_that_both_signatures_share(saved):
    row = np.asarray(create_model().query_tower.embedding.embedding)[1].tobytes()
    assert row not in (saved / savedmodel.SAVED_MODEL).read_bytes()  # a graph cannot have more than 2 GiB
    assert sum(path.read_bytes().count(row) for path in (saved / "variables").iterdir()) == 1


@pytest.mark.slow
def test_a_model_in_memory_can_be_saved_too(tf, bundles, tmp_path):
    recommender, embeddings = load_exact(bundles / "str")
    tower = create_model().query
    savedmodel.save(tmp_path / "saved_model", recommender, tower=tower, embeddings=embeddings, k=K)
    loaded = tf.saved_model.load(str(tmp_path / "saved_model"))
    found = loaded.signatures["recommend"](query_id=tf.constant(BATCHES["str"][1]))
    expected = recommender.recommend(BATCHES["str"][1], K)
    np.testing.assert_array_equal(found["ids"].numpy(), expected.ids)


@pytest.mark.slow
def test_a_zero_query_vector_finds_nothing_as_in_every_index(tf, bundles, tmp_path):
    recommender, embeddings = load_exact(bundles / "int")
    table = jnp.ones((recommender.queries.num_rows + 1, embeddings.shape[1])).at[0].set(0.0)
    tower = Partial(lambda table, rows: table[rows], table)
    savedmodel.save(tmp_path / "saved_model", recommender, tower=tower, embeddings=embeddings, k=K)
    recommend = tf.saved_model.load(str(tmp_path / "saved_model")).signatures["recommend"]
    found = recommend(query_id=tf.constant([12345, 5], tf.int64))
    assert found["ids"].numpy()[0].tolist() == [0] * K and np.isneginf(found["scores"].numpy()[0]).all()
    assert np.isfinite(found["scores"].numpy()[1]).all()


@pytest.mark.slow
def test_saving_again_replaces_and_a_crash_leaves_the_old_one(tf, bundles, saved, monkeypatch):
    savedmodel.from_bundle(bundles / "str", saved, k=K)
    assert tf.saved_model.load(str(saved)).signatures["recommend"].inputs[0].dtype == tf.string
    before = (saved / savedmodel.SAVED_MODEL).read_bytes()

    def crash(module, folder, signatures):
        raise OSError(f"no space left for {folder}")

    monkeypatch.setattr(tf.saved_model, "save", crash)
    with pytest.raises(OSError, match="no space left"):
        savedmodel.from_bundle(bundles / "int", saved, k=K)
    assert (saved / savedmodel.SAVED_MODEL).read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_missing_tensorflow_leaves_no_trace(monkeypatch, bundles, tmp_path):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ImportError, match=r"needs TensorFlow.*pip install -e '\.\[tensorflow\]'"):
        savedmodel.from_bundle(bundles / "int", tmp_path / "saved_model", k=K)
    assert list(tmp_path.iterdir()) == []


def test_another_folder_is_not_overwritten(bundles):
    with pytest.raises(ValueError, match="holds no SavedModel"):
        savedmodel.from_bundle(bundles / "int", bundles / "str", k=K)
    assert bundle.BundleFiles.open(bundles / "str").problems() == []


def test_save_refuses_what_it_cannot_serve(bundles, tmp_path):
    recommender, embeddings = load_exact(bundles / "int")
    for changes, message in (
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"embeddings": embeddings[1:]}, r"30 embeddings needed, got shape \(29, 33\)"),
    ):
        arguments = {"tower": recommender.encode, "embeddings": embeddings, "k": K} | changes
        with pytest.raises(ValueError, match=message):
            savedmodel.save(tmp_path / "saved_model", recommender, **arguments)
