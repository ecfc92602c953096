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
    """Returns a graph over the vectors, whose labels are positions; 0 threads are all of the machine."""
    held = spaces.of_candidates(vectors, space)
    graph = hnswlib.Index(space=spaces.SPACES[space], dim=held.shape[1])
    graph.init_index(len(held), M=M, ef_construction=ef_construction, random_seed=seed)
    graph.add_items(held, np.arange(len(held)), num_threads=threads or -1)
    graph.set_ef(ef)
    return graph


def to_parts(graph: hnswlib.Index) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns a record and arrays from which `from_parts` makes the graph again."""
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
    """Returns the graph of a record and arrays, to be searched and not to be changed.

    Args:
      vectors: of the corpus, as the graph was built from.
      record: of `to_parts`.
      arrays: of `to_parts`; they may be damaged, and do not crash hnswlib.
      space: setting of the graph, as those that follow.
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
