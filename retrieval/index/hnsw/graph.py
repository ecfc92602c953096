"""Graphs of hnswlib: building them, and the arrays that store them.

A graph is stored as `retrieval.index.hnsw.layout` takes it apart, which relies on the private layout of hnswlib. If the
installed hnswlib has another layout, the graph is stored as hnswlib's own file, see `retrieval.index.hnsw.own_file`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import hnswlib
import numpy as np
from jaxtyping import Float32

from retrieval.index.hnsw import layout, own_file, spaces

Graph = hnswlib.Index


def build(
    vectors: Float32[np.ndarray, "n d"], *, space: str, M: int, ef_construction: int, ef: int, seed: int, threads: int
) -> hnswlib.Index:
    """Builds a graph over vectors; its labels are positions. `threads` of 0 are all cores."""
    points = spaces.candidate_points(vectors, space)
    graph = hnswlib.Index(space=spaces.SPACES[space], dim=points.shape[1])
    graph.init_index(len(points), M=M, ef_construction=ef_construction, random_seed=seed)
    graph.add_items(points, np.arange(len(points)), num_threads=threads or -1)
    graph.set_ef(ef)
    return graph


def to_parts(graph: hnswlib.Index) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Converts a graph to a record and arrays, from which `from_parts` makes it again; O(n (d + M)) time."""
    return own_file.to_parts(graph) if layout.difference() else layout.take_apart(graph)


def from_parts(
    vectors: Float32[np.ndarray, "n d"],
    record: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    *,
    space: str,
    M: int,
    ef_construction: int,
    ef: int,
    seed: int,
) -> hnswlib.Index:
    """Makes a graph from a record and arrays; it can be searched, not changed.

    Args:
      vectors: of the corpus that the graph was built from.
      record: of `to_parts`.
      arrays: of `to_parts`; damaged ones are refused before hnswlib reads them.
      space: of the graph, see `build`.
      M: see `build`.
      ef_construction: see `build`.
      ef: see `build`.
      seed: see `build`.

    Raises:
      ValueError: record and arrays do not fit the settings or each other, or the installed hnswlib cannot read them.
      KeyError: one of them is missing.
    """
    if own_file.SHA256 in record:
        return own_file.from_parts(vectors, record, arrays, space=space, ef=ef)
    settings = {"space": space, "M": M, "ef_construction": ef_construction, "ef": ef, "seed": seed}
    return layout.put_together(vectors, record, arrays, **settings)
