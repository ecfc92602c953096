"""A bundle answers as the model did, and refuses to load when anything in it is wrong."""

import json
import logging
import subprocess
import sys

import numpy as np
import pytest

from retrieval.config.schema import Config
from retrieval.data.interactions import Interactions, Table
from retrieval.index import HnswIndex
from retrieval.models.binding import bind, init
from retrieval.pipeline.recipe import prepare
from retrieval.ranking.topk import top_k
from retrieval.serving import bundle

TRAIN = Interactions(["ann", "ann", "bob", "eve"], [10, 20, 20, 30])
CORPUS = Table(np.array([30, 10, 20, 99]), {"title": np.array(["thirty", "ten", "twenty", "never trained"])})
RECIPE = prepare(Config(), TRAIN, CORPUS)
PARAMS = init(RECIPE.model)


def save(folder):
    candidates = np.asarray(RECIPE.candidate_embeddings(PARAMS))
    bundle.save(
        folder,
        model=bind(RECIPE.model, PARAMS),
        queries=RECIPE.encoding.queries,
        candidates=RECIPE.encoding.candidates,
        corpus=CORPUS,
        seen=RECIPE.encoding.seen_by_row(TRAIN),
        index=HnswIndex.build(candidates, M=8, ef_construction=50, ef=50, seed=0),
        facts={"figures": {"index/recall_at_10": 1.0}},
    )
    return folder


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "bundle")


def test_a_loaded_bundle_ranks_as_the_model_does(folder):
    answer = bundle.load(folder).recommend(["ann", "bob", "eve"], k=4, exclude_seen=False)
    queries = RECIPE.query_embeddings(PARAMS, np.array(["ann", "bob", "eve"]), TRAIN)
    scores, positions = top_k(queries, RECIPE.candidate_embeddings(PARAMS), k=4)
    assert np.array_equal(answer.positions, positions)
    assert np.allclose(answer.scores, scores, atol=1e-5)


def test_similarity_compares_all_columns_unless_it_is_said_how_many(folder):
    recommender = bundle.load(folder)
    assert recommender.similarity_dimension == recommender.embeddings.shape[1] != len(recommender.embeddings)


def test_seen_candidates_are_left_out_and_an_unknown_query_is_flagged(folder):
    answer = bundle.load(folder).recommend(["ann", "nobody"], k=4)
    assert set(answer.ids[0].tolist()) == {30, 99, 0}  # 0 stands where nothing is left
    assert answer.titles[0].tolist().count("") == 2
    assert answer.known.tolist() == [True, False]
    assert answer.titles[1][0] == "twenty"  # the most popular


def test_the_candidate_tower_gives_the_embeddings_of_the_index(folder):
    tower = bundle.load(folder).encode_candidates.tower
    rows = RECIPE.encoding.corpus_rows
    assert np.allclose(tower(rows), np.load(folder / bundle.EMBEDDINGS), atol=1e-6)


def test_the_query_tower_loads_where_there_is_no_model_code(folder):
    code = f"""
import jax, numpy as np, sys
from jax import export
tower = export.deserialize(bytearray(open({str(folder / bundle.QUERY_TOWER)!r}, "rb").read()))
(arrays, rows), columns = jax.tree.unflatten(tower.in_tree, tower.in_avals)
arrays = {{name: np.load(name + ".npy") for name in arrays}}
for size in (1, 3):
    print(np.asarray(tower.call(arrays, np.arange(size, dtype=np.int32))).shape)
print(sorted(tower.platforms), any(name.startswith(("flax", "retrieval")) for name in sys.modules))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)
    assert result.stdout.split("\n")[:3] == ["(1, 33)", "(3, 33)", "['cpu', 'cuda', 'tpu'] False"], result.stderr


def test_a_bundle_is_replaced_as_a_whole(folder):
    (folder / "left_over.txt").write_text("of an older bundle")
    save(folder)
    assert not (folder / "left_over.txt").exists()
    assert sorted(path.name for path in folder.parent.iterdir()) == ["bundle", "bundle.previous"]
    assert (folder.parent / "bundle.previous/left_over.txt").exists()


@pytest.mark.parametrize(
    "name", ["query_tower.stablehlo", "query_context.json", "corpus.json", "index/index.json", "seen_rows.npy"]
)
def test_a_changed_file_is_named(folder, name):
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} has changed since it was written"):
        bundle.load(folder)


def test_a_missing_file_is_named(folder):
    (folder / "query_vocabulary.json").unlink()
    with pytest.raises(ValueError, match="lacks 'query_vocabulary.json'"):
        bundle.load(folder)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    with pytest.raises(ValueError, match="is no bundle: it is an empty folder"):
        bundle.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 2}, "has bundle format 2, this version reads 4"),
        ({"files": 3}, "is damaged.*another SHA-256 than it says"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(folder, change, message):
    path = folder / bundle.MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=message):
        bundle.load(folder)


def test_times_that_the_tower_does_not_read_are_told_once(folder, caplog):
    loaded = bundle.load(folder)
    with caplog.at_level(logging.WARNING):
        for times in (None, 0, [10**9]):
            loaded.recommend(["ann"], 2, times=times)
            loaded.similar_users("ann", 2, times=None if times is None else 5)
    assert caplog.messages == ["times are given, and the query tower reads none: nothing changes"]
