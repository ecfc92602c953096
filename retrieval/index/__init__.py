"""Search over candidate embeddings: exact or by a graph, certified, by ids, under filters, while it changes."""

from __future__ import annotations

import os
from pathlib import Path

from retrieval.index import files
from retrieval.index.arguments import Exclusions, Subset
from retrieval.index.certificate import recall
from retrieval.index.exact import ExactIndex
from retrieval.index.hnsw import HnswIndex, Settings
from retrieval.index.interface import Searcher

__all__ = ["ExactIndex", "Exclusions", "HnswIndex", "Searcher", "Settings", "Subset", "load", "recall"]


def load(folder: str | os.PathLike[str]) -> Searcher:
    """Reads what the `save` of any searcher wrote.

    Raises:
      ValueError: a file is missing or damaged, or has another format version.
    """
    kinds = {"exact": ExactIndex, "hnsw": HnswIndex}
    kind = files.read_record(Path(folder))["kind"]
    if kind not in kinds:
        raise ValueError(f"{folder} holds an index of kind {kind!r}, not {' or '.join(kinds)}")
    return kinds[kind].load(folder)
