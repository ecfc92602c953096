"""A graph is stored by the private layout of hnswlib where that is known, and else as hnswlib's own file."""

import json
import os
import pathlib
import subprocess
import sys

import hnswlib
import numpy as np
import pytest

from retrieval.common.manifest import read_manifest, write_manifest
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
    record = read_manifest(folder / "index.json")
    write_manifest(folder / "index.json", record | {"entry": record["entry"] | fields})


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


def parts():
    graph = HnswIndex.build(VECTORS, M=4, ef_construction=40, ef=30, seed=7).graph
    entry, arrays = layout.take_apart(graph)
    return entry, {name: array.copy() for name, array in arrays.items()}


def put_together(entry, arrays):
    settings = {"space": "inner_product", "M": 4, "ef_construction": 40, "seed": 7, "ef": 30}
    return layout.put_together(VECTORS, entry, arrays, **settings)


def links_of(arrays):
    return arrays["upper"].view(np.int32).reshape(-1, 5)


def low_node(arrays):
    return int(np.flatnonzero(arrays["levels"] == 0)[0])


OUT_OF_RANGE = {  # what hnswlib would follow out of its arrays, although every hash is right
    "a link beyond the nodes": (lambda arrays: arrays["neighbours"].__setitem__((5, 1), 300), "neighbours"),
    "a link below 0": (lambda arrays: arrays["neighbours"].__setitem__((5, 2), -1), "neighbours"),
    "more links than there is room for": (lambda arrays: arrays["neighbours"].__setitem__((5, 0), 9), "neighbours"),
    "a length below 0": (lambda arrays: arrays["neighbours"].__setitem__((5, 0), -1), "neighbours"),
    "an upper link beyond the nodes": (lambda arrays: links_of(arrays).__setitem__((0, 1), 300), "upper must be"),
    "more upper links": (lambda arrays: links_of(arrays).__setitem__((0, 0), 5), "upper must be"),
    "an upper link to a node of the lowest layer": (
        lambda arrays: links_of(arrays).__setitem__((0, slice(0, 2)), (1, low_node(arrays))),
        "a node that its layer lacks",
    ),
}


@pytest.mark.parametrize("name", OUT_OF_RANGE)
def test_links_out_of_range_are_refused_before_hnswlib_follows_them(name):
    change, message = OUT_OF_RANGE[name]
    entry, arrays = parts()
    put_together(entry, arrays)
    change(arrays)
    with pytest.raises(ValueError, match=message):
        put_together(entry, arrays)


def test_no_change_of_the_arrays_crashes_the_process():
    """Random bytes and numbers are written into the arrays; a graph is refused, or is searched to the end."""
    program = "import test_hnswlib_layout; test_hnswlib_layout.search_changed_graphs(400)"
    folders = [str(pathlib.Path(__file__).parent), *sys.path]
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    refused, searched = map(int, done.stdout.split())
    assert refused > 100 and searched > 10


def search_changed_graphs(count):
    rng, refused = np.random.default_rng(0), 0
    for _ in range(count):
        entry, arrays = parts()
        name = rng.choice(["neighbours", "levels", "upper", "labels", "enterpoint_node", "max_level"])
        value = int(rng.choice([-1, 0, 1, 2, 7, 8, 9, 65535, 1 << 16, 1 << 24, rng.integers(300), 2**31 - 1]))
        if name in entry:
            entry[name] = value
        elif rng.random() < 0.5:
            numbers = arrays[name].reshape(-1).view(np.int32)
            numbers[rng.integers(len(numbers))] = value
        else:
            content = arrays[name].reshape(-1).view(np.uint8)
            content[rng.integers(len(content))] ^= 1 << rng.integers(8)
        try:
            graph = put_together(entry, arrays)
        except ValueError:
            refused += 1
        else:
            graph.knn_query(QUERIES, 10)
    print(refused, count - refused)
