"""Indexes are sent to worker processes as they are: searched there, they answer alike."""

import concurrent.futures
import multiprocessing
import pickle

import numpy as np
import pytest

from retrieval.index import ExactIndex, Filter, HnswIndex, LiveIndex, load

RNG = np.random.default_rng(0)
VECTORS, QUERIES = (RNG.standard_normal((count, 8)).astype(np.float32) for count in (400, 6))
GRAPH = {"M": 8, "ef_construction": 40, "ef": 30, "seed": 7}


def live(base):
    columns = {"year": np.arange(400), "tags": [["a|b"], ["c", "a"]] * 200, "new": np.arange(400) % 3 == 0}
    index = LiveIndex.build([f"film {i}" for i in range(400)], base, columns, rebuild_at=np.inf)
    index.add(["added"], QUERIES[:1], {"year": [2026], "tags": [["d"]], "new": [True]})
    index.remove(["film 3"])
    return index


def assert_same_answers(first, second, k=5):
    if isinstance(first, LiveIndex):
        wanted = Filter(one_of={"tags": ["a|b", "d"]}, between={"year": (7, None)})
        for filter in (None, wanted):
            expected, found = (index.search(QUERIES, k, filter=filter) for index in (first, second))
            assert found.ids.tolist() == expected.ids.tolist()
            np.testing.assert_array_equal(found.scores, expected.scores)
    else:
        for expected, found in zip(first.search(QUERIES, k), second.search(QUERIES, k), strict=True):
            np.testing.assert_array_equal(found, expected)


INDEXES = {
    "exact": lambda: ExactIndex.build(VECTORS),
    "graph": lambda: HnswIndex.build(VECTORS, **GRAPH),
    "live, exact": lambda: live(ExactIndex.build(VECTORS)),
    "live, graph": lambda: live(HnswIndex.build(VECTORS, **GRAPH)),
}


@pytest.mark.parametrize("name", INDEXES)
def test_a_copy_through_bytes_answers_alike(name, tmp_path):
    index = INDEXES[name]()
    copied = pickle.loads(pickle.dumps(index))
    assert_same_answers(index, copied)
    index.save(tmp_path / "index")
    loaded = (LiveIndex.load if isinstance(index, LiveIndex) else load)(tmp_path / "index")
    assert_same_answers(index, pickle.loads(pickle.dumps(loaded)))  # of a graph that was put together from its arrays
    if isinstance(index, LiveIndex):
        copied.add(["only there"], QUERIES[1:2] * 9, {"year": [1], "tags": [[]], "new": [False]})
        assert copied.search(QUERIES[1:2], 1).ids.tolist() == [["only there"]] and len(copied) == len(index) + 1


def test_a_worker_process_searches_what_it_was_sent():
    index = live(HnswIndex.build(VECTORS, **GRAPH))
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        found = pool.submit(index.search, QUERIES, 3).result()
    assert found.ids.tolist() == index.search(QUERIES, 3).ids.tolist()
