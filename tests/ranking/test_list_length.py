"""The length of lists has one bound at every entrance: no length hangs, or fills the memory."""

import numpy as np
import pytest
from bundle_cases import save

from retrieval.common.list_length import LARGEST_K, check_k
from retrieval.index import ExactIndex, HnswIndex, LiveIndex
from retrieval.ranking.topk import top_k
from retrieval.serving import bundle

VECTORS = np.eye(4, dtype=np.float32)


@pytest.fixture(scope="module")
def entrances(tmp_path_factory):
    """Functions of k, by name."""
    loaded = bundle.load(save(tmp_path_factory.mktemp("lengths") / "bundle"))
    exact, graph = ExactIndex.build(VECTORS), HnswIndex.build(VECTORS, M=4, ef_construction=10, ef=10, seed=0)
    live = LiveIndex.build([1, 2, 3, 4], exact)
    return {
        "recommend": lambda k: loaded.recommend("ann", k),
        "similar": lambda k: loaded.similar(10, k),
        "similar_users": lambda k: loaded.similar_users("ann", k),
        "exact": lambda k: exact.search(VECTORS, k),
        "hnsw": lambda k: graph.search(VECTORS, k),
        "live": lambda k: live.search(VECTORS, k),
        "top_k": lambda k: top_k(VECTORS, VECTORS, k),
    }


NAMES = ("recommend", "similar", "similar_users", "exact", "hnsw", "live", "top_k")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "k, told",
    [
        (0, "at least 1, got 0"),
        (-(10**30), "at least 1, got -1000"),
        (LARGEST_K + 1, "at most 1,048,576, got 1048577"),
        (10**400, "at most 1,048,576, got 1000"),
    ],
)
def test_a_length_out_of_range_is_refused_everywhere(entrances, name, k, told):
    with pytest.raises(ValueError, match=f"k must be {told}") as error:
        entrances[name](k)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("k", [1.0, float("nan"), "10", True, None, np.array([1, 2]), "x" * 10_000])
def test_what_is_no_number_is_refused_in_few_words(k):
    with pytest.raises(ValueError, match="k must be an integer, got ") as error:
        check_k(k)
    assert len(str(error.value)) < 200


@pytest.mark.parametrize("name", NAMES)
def test_a_length_beyond_the_corpus_is_padded(entrances, name):
    assert entrances[name](50) is not None


def test_the_bound_is_included():
    assert check_k(LARGEST_K) == LARGEST_K and check_k(np.uint8(3)) == 3
