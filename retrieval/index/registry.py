"""The searchers there are, by the kind that their files name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.index import files
from retrieval.index.exact.exact_index import ExactIndex
from retrieval.index.hnsw.hnsw_index import HnswIndex
from retrieval.index.interface import Searcher

KINDS: dict[str, type[Searcher]] = {ExactIndex.kind: ExactIndex, HnswIndex.kind: HnswIndex}


def load(folder: str | os.PathLike[str]) -> Searcher:
    """Reads what the `save` of any searcher wrote.

    Raises:
      ValueError: a file is missing or damaged, has another format version, or the kind is unknown.
    """
    kind = files.read_record(Path(folder))["kind"]
    if kind not in KINDS:
        raise ValueError(f"{folder} holds an index of kind {kind!r}, not {' or '.join(KINDS)}")
    return KINDS[kind].load(folder)


def from_parts(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Searcher:
    """Returns the searcher that `parts` of any kind described.

    Raises:
      ValueError: the kind is unknown, or record and arrays do not fit.
    """
    if record.get("kind") not in KINDS:
        raise ValueError(f"the record is of kind {record.get('kind')!r}, not {' or '.join(KINDS)}")
    return KINDS[record["kind"]].from_parts(record, arrays)
