"""A graph is stored by the private layout of hnswlib where that is known, and else as hnswlib's own file."""

import json

import hnswlib
import numpy as np
import pytest

from retrieval.index import HnswIndex, LiveIndex, load
from retrieval.index.hnsw import layout, own_file
from retrieval.index.hnsw.spaces import SPACES

VECTORS = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
QUERIES = np.random.default_rng(1).standard_normal((20, 8)).astype(np.float32)


class OfAnotherVersion(hnswlib.Index):
    def __getstate__(self):
        (state,) = super().__getstate__()
        return ({**state, "ser_version": 2},)


class WithAnotherField(hnswlib.Index):
    def __getstate__(self):
        (state,) = super().__getstate__()
        return ({**state, "quantiser": 0},)


class WithoutState(hnswlib.Index):
    def __getstate__(self):
        raise AttributeError("no state")


OTHERS = {
    OfAnotherVersion: "the field 'ser_version' of its state differs",
    WithAnotherField: "the fields of its state differ: .'quantiser'.",
    WithoutState: "its state cannot be taken apart: AttributeError",
}


def build(space="inner_product"):
    return HnswIndex.build(VECTORS, M=8, ef_construction=40, ef=30, seed=7, space=space)


def assert_same_answers(first, second):
    for expected, found in zip(first.search(QUERIES, 10), second.search(QUERIES, 10), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_layout_of_the_installed_version_is_known():
    assert layout.difference() == ""


@pytest.mark.parametrize("other", OTHERS)
def test_another_layout_is_named_with_the_installed_version_and_the_way_out(tmp_path, monkeypatch, other):
    build().save(tmp_path)
    monkeypatch.setattr(hnswlib, "Index", other)
    message = f"hnswlib 0.8.* is installed, and {OTHERS[other]}.*; install hnswlib>=0.8,<0.9, or build the index again"
    with pytest.raises(ValueError, match=message):
        load(tmp_path)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("space", SPACES)
def test_another_layout_is_stored_as_hnswlibs_own_file(tmp_path, monkeypatch, other, space):
    index = build(space)
    monkeypatch.setattr(hnswlib, "Index", other)
    index.save(tmp_path)
    record = json.loads((tmp_path / "index.json").read_text())
    assert set(record["arrays"]) == {"vectors", "hnswlib_file"} and record["entry"]["hnswlib"].startswith("0.8")
    loaded = load(tmp_path)
    assert isinstance(loaded.graph, other) and loaded.settings == index.settings and loaded.graph.ef == 30
    assert_same_answers(index, loaded)
    monkeypatch.undo()
    assert_same_answers(index, load(tmp_path))  # a version with the known layout reads the file as well


def test_a_live_index_is_stored_as_hnswlibs_own_file(tmp_path, monkeypatch):
    live = LiveIndex.build(np.arange(300), build())
    monkeypatch.setattr(hnswlib, "Index", OfAnotherVersion)
    live.save(tmp_path)
    assert np.array_equal(LiveIndex.load(tmp_path).search(QUERIES, 10).ids, live.search(QUERIES, 10).ids)


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setattr(hnswlib, "Index", OfAnotherVersion)
    build().save(tmp_path)
    return tmp_path


def edit_entry(folder, **fields):
    path = folder / "index.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"entry": record["entry"] | fields}))


def test_a_damaged_file_does_not_reach_hnswlib(own, monkeypatch):
    monkeypatch.setattr(OfAnotherVersion, "load_index", lambda *_: pytest.fail("handed to hnswlib"), raising=False)
    path = own / json.loads((own / "index.json").read_text())["arrays"]["hnswlib_file"]["file"]
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="index-[0-9a-f]*.npy has changed"):
        load(own)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sha256": "0" * 64}, "hnswlib_file has changed since it was written"),
        ({"dimension": 9}, "hnswlib_file has vectors of 9 dimensions, not 8"),
    ],
)
def test_a_record_that_does_not_fit_the_file_is_refused(own, fields, message):
    edit_entry(own, **fields)
    with pytest.raises(ValueError, match=message):
        load(own)


def test_a_file_of_other_vectors_or_of_a_version_that_cannot_read_it_is_refused(monkeypatch):
    record, arrays = own_file.to_parts(build().graph)
    with pytest.raises(ValueError, match="hnswlib_file has 300 vectors, not 299"):
        own_file.from_parts(VECTORS[:299], record, arrays, space="inner_product", ef=30)

    class Unreadable(hnswlib.Index):
        def load_index(self, *_):
            raise RuntimeError("Index seems to be corrupted or unsupported")

    monkeypatch.setattr(hnswlib, "Index", Unreadable)
    message = "hnswlib 0.8.* cannot read hnswlib_file, which hnswlib 0.8.* wrote .*install that version, or build"
    with pytest.raises(ValueError, match=message):
        own_file.from_parts(VECTORS, record, arrays, space="inner_product", ef=30)
