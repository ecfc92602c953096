"""hnswlib's graph, taken apart into arrays and put together again: the only import of hnswlib.

hnswlib lays out a node of the lowest layer as the number of its neighbours and room for 2 M of them, the vector, and
the label. The arrays keep the neighbours alone; the vectors are those of the corpus.
"""

from __future__ import annotations

import concurrent.futures
import math
import os
from collections.abc import Mapping
from typing import Any

import hnswlib
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from retrieval.index.hnsw import spaces

Graph = hnswlib.Index
_STATE_VERSION = 1  # of what hnswlib takes itself apart into
_LABEL_BYTES = 8
_BLOCK = 1 << 12  # nodes: what one core fills in at a time stays in its cache


def build(
    vectors: Float32[np.ndarray, "n d"], *, space: str, M: int, ef_construction: int, ef: int, seed: int, threads: int
) -> hnswlib.Index:
    """Returns a graph over the vectors, whose labels are positions; 0 threads are all of the machine."""
    held = spaces.of_candidates(vectors, space)
    graph = hnswlib.Index(space=spaces.SPACES[space], dim=held.shape[1])
    graph.init_index(len(held), M=M, ef_construction=ef_construction, random_seed=seed)
    graph.add_items(held, np.arange(len(held)), num_threads=threads or -1)
    graph.set_ef(ef)
    return graph


def take_apart(graph: hnswlib.Index) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """Returns where a search of the graph begins, and its links, by node: nodes are in the order of their insertion."""
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
    vectors: Float32[np.ndarray, "n d"],
    entry: Mapping[str, int],
    arrays: Mapping[str, np.ndarray],
    *,
    space: str,
    M: int,
    ef_construction: int,
    ef: int,
    seed: int,
) -> hnswlib.Index:
    """Returns the graph that was taken apart, with its settings, to be searched and not to be changed.

    hnswlib copies what the arrays hold and looks at the levels alone, which are checked: they may be unverified yet.

    Raises:
      ValueError: arrays do not fit the settings or each other.
    """
    held = spaces.of_candidates(vectors, space)
    labels, levels = arrays["labels"], arrays["levels"]
    _check(len(held), M, entry, arrays)
    nodes, offset = _nodes(held, labels, arrays["neighbours"]), 4 * (1 + 2 * M)
    state: dict[str, Any] = {
        "ser_version": _STATE_VERSION,
        "space": spaces.SPACES[space],
        "dim": held.shape[1],
        "index_inited": True,
        "ep_added": True,
        "normalize": False,
        "num_threads": hnswlib.Index(space="ip", dim=1).num_threads,
        "seed": seed,
        "offset_level0": 0,
        "max_elements": len(held),
        "cur_element_count": len(held),
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
        "label_lookup_external": np.zeros(len(held), np.uint64),  # changes alone would need this table: it is left out
        "label_lookup_internal": np.zeros(len(held), np.uint32),
        "element_levels": levels,
        "data_level0": nodes.reshape(-1).view(np.int8),
        "link_lists": arrays["upper"].view(np.int8),
    }
    graph = hnswlib.Index.__new__(hnswlib.Index)
    graph.__setstate__((state,))
    return graph


def _nodes(
    held: Float32[np.ndarray, "n D"], labels: Int32[np.ndarray, " n"], neighbours: Int32[np.ndarray, "n m"]
) -> UInt8[np.ndarray, "n b"]:
    """Returns the nodes of the lowest layer as hnswlib lays them out; all cores fill in blocks of them. O(n b) time."""
    offset = 4 * neighbours.shape[1]
    nodes = np.empty((len(held), offset + 4 * held.shape[1] + _LABEL_BYTES), np.uint8)

    def fill(start: int) -> None:
        rows = slice(start, start + _BLOCK)
        nodes[rows, :offset] = neighbours[rows].view(np.uint8)
        nodes[rows, offset:-_LABEL_BYTES] = held[labels[rows]].view(np.uint8)
        nodes[rows, -_LABEL_BYTES:] = labels[rows].astype(np.uint64)[:, None].view(np.uint8)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(fill, range(0, len(held), _BLOCK)))
    return nodes


def _check(n: int, M: int, entry: Mapping[str, int], arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError where hnswlib would read or write beyond what there is."""
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
