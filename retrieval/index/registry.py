"""The registry of searchers, by the kind that is written in their files."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from retrieval.common.choices import check_choice
from retrieval.index import files
from retrieval.index.exact.exact_index import ExactIndex
from retrieval.index.hnsw.hnsw_index import HnswIndex
from retrieval.index.interface import Searcher

KINDS: dict[str, type[Searcher]] = {ExactIndex.kind: ExactIndex, HnswIndex.kind: HnswIndex}


def load(folder: str | os.PathLike[str]) -> Searcher:
    """Reads an index that the `save` of any registered searcher wrote, verified.

    Raises:
      ValueError: a file is missing or damaged, has another format version, or the kind is unknown.
    """
    kind = files.read_record(Path(folder))["kind"]
    check_choice(f"{folder} must hold a searcher: its kind", kind, KINDS)
    return KINDS[kind].load(folder)


def from_parts(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Searcher:
    """Makes the searcher, of any kind, from the record and arrays of its `parts`.

    Raises:
      ValueError: the kind is unknown, or record and arrays do not fit.
    """
    check_choice("the kind of the record", record.get("kind"), KINDS)
    return KINDS[record["kind"]].from_parts(record, arrays)
