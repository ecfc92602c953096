"""A graph as the file that hnswlib itself writes: the way out where the private layout of hnswlib is unknown.

hnswlib trusts its file: a damaged one may crash it. So the file is given to hnswlib once its SHA-256 is verified.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import hnswlib
import numpy as np
from jaxtyping import Float32

from retrieval.index.hnsw import spaces

SHA256 = "sha256"  # key of the record that tells this form from the arrays of `layout`
FILE = "hnswlib_file"


def to_parts(graph: hnswlib.Index) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Converts a graph to a record and hnswlib's file as an array of bytes; O(n (d + M)) time, and a temporary file."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / FILE
        graph.save_index(str(path))
        content = np.fromfile(path, np.uint8)
    version, digest = importlib.metadata.version("hnswlib"), hashlib.sha256(content).hexdigest()
    return {"hnswlib": version, "dimension": graph.dim, SHA256: digest}, {FILE: content}


def from_parts(
    vectors: Float32[np.ndarray, "n d"],
    record: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    *,
    space: str,
    ef: int,
) -> hnswlib.Index:
    """Makes a graph with hnswlib's own reader, from its verified file.

    Raises:
      ValueError: the file is damaged, is of other vectors, or the installed hnswlib cannot read it.
      KeyError: the record or the arrays lack what `to_parts` returned.
    """
    content, dimension = arrays[FILE], spaces.candidate_points(vectors[:1], space).shape[1]
    if hashlib.sha256(content).hexdigest() != record[SHA256]:
        raise ValueError(f"{FILE} has changed since it was written")
    if record["dimension"] != dimension:
        raise ValueError(f"{FILE} has vectors of {record['dimension']} dimensions, not {dimension}")
    graph = hnswlib.Index(space=spaces.SPACES[space], dim=dimension)
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / FILE
        content.tofile(path)
        try:
            graph.load_index(str(path))
        except RuntimeError as error:
            installed = importlib.metadata.version("hnswlib")
            raise ValueError(
                f"hnswlib {installed} cannot read {FILE}, which hnswlib {record['hnswlib']} wrote ({error}); install "
                "that version, or build the index again"
            ) from None
    if graph.element_count != len(vectors):
        raise ValueError(f"{FILE} has {graph.element_count} vectors, not {len(vectors)}")
    graph.set_ef(ef)  # hnswlib does not store ef
    return graph
