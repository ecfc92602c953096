"""The private layout of hnswlib 0.8: its graph, taken apart into arrays and put together again.

hnswlib lays out a node of the lowest layer as the number of its neighbours and room for 2 M of them, the vector, and
the label. The arrays keep the neighbours alone; the vectors are those of the corpus. Loading a graph this way, with all
hashes verified, takes 0.5 to 0.9 of the time in which hnswlib reads its own file. Another version may have another
layout: `difference` compares that of the installed version, field by field, before anything relies on it.
"""

from __future__ import annotations

import concurrent.futures
import functools
import importlib.metadata
import math
import os
from collections.abc import Mapping
from typing import Any

import hnswlib
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from retrieval.index.hnsw import spaces

VERSIONS = "hnswlib>=0.8,<0.9"  # known to have this layout
_STATE_VERSION = 1  # of the state that hnswlib pickles
_LABEL_BYTES = 8
_BLOCK = 1 << 12  # nodes that a core fills at a time; they stay in its cache
_LEFT_OUT = "label_lookup_external", "label_lookup_internal"  # fields that only changes of a graph read


def difference() -> str:
    """Returns how the layout of the installed hnswlib differs from the one known here; "" if it does not.

    A small graph is built once and its state compared with the state that `put_together` would give to hnswlib.
    """
    return _difference(hnswlib.Index)


@functools.lru_cache(4)
def _difference(graph_class: type) -> str:
    """Computes `difference` for a class of graphs, once."""
    settings = {"space": spaces.INNER_PRODUCT, "M": 2, "ef_construction": 8, "seed": 3, "ef": 5}
    vectors = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    try:
        graph = graph_class(space="ip", dim=3)
        graph.init_index(len(vectors), M=2, ef_construction=8, random_seed=3)
        graph.add_items(vectors, np.arange(len(vectors)), num_threads=1)
        graph.set_ef(5)
        (found,) = graph.__getstate__()
        expected = _state(vectors, *take_apart(graph), **settings)
    except Exception as error:  # another version may raise any error
        return f"its state cannot be taken apart: {error!r}"
    if found.keys() != expected.keys():
        return f"the fields of its state differ: {sorted(found.keys() ^ expected.keys())}"
    for name in expected.keys() - set(_LEFT_OUT):
        if not np.array_equal(found[name], expected[name]):
            return f"the field {name!r} of its state differs"
    return ""


def take_apart(graph: hnswlib.Index) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """Returns the node and layer at which a search begins, and the links of all nodes in their order of insertion."""
    (state,) = graph.__getstate__()
    nodes = state["data_level0"].view(np.uint8).reshape(state["cur_element_count"], -1)
    labels = np.ascontiguousarray(nodes[:, -_LABEL_BYTES:]).view(np.uint64)[:, 0]
    return {name: int(state[name]) for name in ("max_level", "enterpoint_node")}, {
        "labels": labels.astype(np.int32),
        "neighbours": np.ascontiguousarray(nodes[:, : state["offset_data"]]).view(np.int32),
        "levels": state["element_levels"],
        "upper": state["link_lists"].view(np.uint8),
    }


def put_together(
    vectors: Float32[np.ndarray, "n d"], entry: Mapping[str, int], arrays: Mapping[str, np.ndarray], **settings: Any
) -> hnswlib.Index:
    """Makes a graph from the result of `take_apart` and its settings; it can be searched, not changed.

    hnswlib copies the arrays and follows their links unchecked; all that it follows is checked first.

    Raises:
      ValueError: arrays do not fit the settings or each other, or the installed hnswlib has another layout.
    """
    _check(len(vectors), settings["M"], entry, arrays)
    if problem := difference():
        raise ValueError(
            f"hnswlib {importlib.metadata.version('hnswlib')} is installed, and {problem}; install {VERSIONS}, "
            "or build the index again: it is then saved as hnswlib's own file"
        )
    graph = hnswlib.Index.__new__(hnswlib.Index)
    graph.__setstate__((_state(vectors, entry, arrays, **settings),))
    return graph


def _state(
    vectors: Float32[np.ndarray, "n d"],
    entry: Mapping[str, int],
    arrays: Mapping[str, np.ndarray],
    *,
    space: str,
    M: int,
    ef_construction: int,
    ef: int,
    seed: int,
) -> dict[str, Any]:
    """Returns the state of a graph as hnswlib pickles it; the look-up of labels, which only changes need, is zero."""
    points = spaces.candidate_points(vectors, space)
    nodes, offset = _nodes(points, arrays["labels"], arrays["neighbours"]), 4 * (1 + 2 * M)
    return {
        "ser_version": _STATE_VERSION,
        "space": spaces.SPACES[space],
        "dim": points.shape[1],
        "index_inited": True,
        "ep_added": True,
        "normalize": False,
        "num_threads": hnswlib.Index(space="ip", dim=1).num_threads,
        "seed": seed,
        "offset_level0": 0,
        "max_elements": len(points),
        "cur_element_count": len(points),
        "size_data_per_element": nodes.shape[1],
        "label_offset": nodes.shape[1] - _LABEL_BYTES,
        "offset_data": offset,
        "max_level": entry["max_level"],
        "enterpoint_node": entry["enterpoint_node"],
        "max_M": M,
        "max_M0": 2 * M,
        "M": M,
        "mult": 1 / math.log(M),
        "ef_construction": max(ef_construction, M),
        "ef": ef,
        "has_deletions": False,
        "size_links_per_element": 4 * (1 + M),
        "allow_replace_deleted": False,
        "label_lookup_external": np.zeros(len(points), np.uint64),
        "label_lookup_internal": np.zeros(len(points), np.uint32),
        "element_levels": arrays["levels"],
        "data_level0": nodes.reshape(-1).view(np.int8),
        "link_lists": arrays["upper"].view(np.int8),
    }


def _nodes(
    points: Float32[np.ndarray, "n D"], labels: Int32[np.ndarray, " n"], neighbours: Int32[np.ndarray, "n m"]
) -> UInt8[np.ndarray, "n b"]:
    """Lays out the nodes of the lowest layer in bytes, as hnswlib does; all cores fill blocks of nodes. O(n b) time."""
    offset = 4 * neighbours.shape[1]
    nodes = np.empty((len(points), offset + 4 * points.shape[1] + _LABEL_BYTES), np.uint8)

    def fill(start: int) -> None:
        rows = slice(start, start + _BLOCK)
        nodes[rows, :offset] = neighbours[rows].view(np.uint8)
        nodes[rows, offset:-_LABEL_BYTES] = points[labels[rows]].view(np.uint8)
        nodes[rows, -_LABEL_BYTES:] = labels[rows].astype(np.uint64)[:, None].view(np.uint8)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(fill, range(0, len(points), _BLOCK)))
    return nodes


def _check(n: int, M: int, entry: Mapping[str, int], arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError if hnswlib, which trusts its arrays, would read or write outside of them. O(n M) time."""
    labels: Int32[np.ndarray, " n"] = arrays["labels"]
    levels: Int32[np.ndarray, " n"] = arrays["levels"]
    upper: UInt8[np.ndarray, " m"] = arrays["upper"]
    shapes = {
        "labels": (labels, (n,), np.int32),
        "neighbours": (arrays["neighbours"], (n, 1 + 2 * M), np.int32),
        "levels": (levels, (n,), np.int32),
        "upper": (upper, (int(levels.sum()) * 4 * (1 + M),), np.uint8),
    }
    for name, (array, shape, dtype) in shapes.items():
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{name} must be {np.dtype(dtype)} of shape {shape}, got {array.dtype} of {array.shape}")
    if levels.min() < 0 or not (0 <= entry["enterpoint_node"] < n and levels.max() == entry["max_level"]):
        raise ValueError(f"the search cannot begin at {dict(entry)} with levels up to {levels.max()}")
    if levels[entry["enterpoint_node"]] != entry["max_level"]:
        raise ValueError(f"the search begins at a node of level {levels[entry['enterpoint_node']]}, not of the highest")
    if np.bincount(labels[(labels >= 0) & (labels < n)], minlength=n).min(initial=1) != 1:
        raise ValueError(f"labels must be each position in [0, {n}) once")
    _check_links("neighbours", arrays["neighbours"], n)
    links = np.ascontiguousarray(upper).view(np.int32).reshape(-1, 1 + M)
    _check_links("upper", links, n)
    # `upper` holds, node by node, a list for each layer from 1 up to its level. hnswlib has no list of a node above its
    # level, so a link of a layer must lead to a node whose level is that layer or higher.
    layers = np.arange(1, len(links) + 1) - np.repeat(np.cumsum(levels) - levels, levels)
    used = np.arange(M) < links[:, :1]
    if (used & (levels[links[:, 1:]] < layers[:, None])).any():
        raise ValueError("upper has a link to a node that its layer lacks")


def _check_links(name: str, lists: Int32[np.ndarray, "m w"], n: int) -> None:
    """Raises ValueError unless each list begins with its length and holds nodes; unused entries must be nodes too."""
    counts, links = lists.view(np.uint32)[:, 0], lists.view(np.uint32)[:, 1:]  # negative numbers exceed every bound
    if counts.max(initial=0) > links.shape[1] or links.max(initial=0) >= n:
        raise ValueError(f"{name} must be lists of at most {links.shape[1]} nodes in [0, {n}), each after its length")
