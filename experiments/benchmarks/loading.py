"""Measures the verified load of an index and of a bundle, beside reading their files."""

from __future__ import annotations

import functools
import hashlib
import os
import pathlib
import tempfile

import numpy as np

from retrieval.common.lists import Lists
from retrieval.data.interactions import Table
from retrieval.data.vocabulary import Vocabulary
from retrieval.index import HnswIndex
from retrieval.models.fixed_towers import FixedTowers
from retrieval.serving import bundle as bundles

from .index import Prepared, prepare
from .measure import Measurement, interleaved, share


def load(
    num_candidates: int = 1_000_000, num_queries: int = 1024, dimension: int = 64, rounds: int = 7, cache: str = ""
) -> list[Measurement]:
    """Measures the load of an index beside reading its files, with and without SHA-256, and beside the load of hnswlib.

    The lower bound of any load is the time in which hnswlib copies a graph that is in memory already, unverified.
    """
    prepared = prepare(num_candidates, num_queries, dimension, cache)
    with tempfile.TemporaryDirectory(dir=cache or None) as folder:
        prepared.index.save(folder)
        files, graph = sorted(pathlib.Path(folder).iterdir()), prepared.index.graph
        graph.save_index(own := str(pathlib.Path(folder) / "graph"))
        library, read = functools.partial(HnswIndex.load, folder), functools.partial(read_all, files)
        warm, verified, unverified, bare, copied = interleaved(
            library,
            functools.partial(digests, files),
            read,
            lambda: type(graph)(space=graph.space, dim=graph.dim).load_index(own),
            functools.partial(copy, graph, graph.__getstate__()),
            rounds=rounds,
        )
        cold, cold_read = interleaved(library, read, rounds=rounds, before=functools.partial(forget, files))
    return [
        share("index/load", warm, verified, "s", "reading the files and their SHA-256", 1.5),
        share("index/load/disk", cold, cold_read, "s", "reading the files, both from disk", 1.5),
        share("index/load/bare", warm, unverified, "s", "reading the files, unverified", 1.5),
        share("index/load/hnswlib", warm, bare, "s", "hnswlib's load of its own file, unverified", 1.5),
        share("index/load/copy", copied, unverified, "s", "the floor of `bare`: hnswlib's copy, beside reading", 1.5),
    ]


def load_bundle(
    num_candidates: int = 1_000_000, num_queries: int = 1024, dimension: int = 64, rounds: int = 5, cache: str = ""
) -> list[Measurement]:
    """Measures the load of a bundle, ready to answer, beside reading its files with their SHA-256."""
    prepared = prepare(num_candidates, num_queries, dimension, cache)
    with tempfile.TemporaryDirectory(dir=cache or None) as folder:
        path = pathlib.Path(folder) / "bundle"
        save(prepared, path)
        files = sorted(file for file in path.rglob("*") if file.is_file())
        loaded, verified = interleaved(
            functools.partial(bundles.load, path), functools.partial(digests, files), rounds=rounds
        )
    return [share("index/load_bundle", loaded, verified, "s", "reading the files and their SHA-256", 1.5)]


def save(prepared: Prepared, folder: pathlib.Path) -> None:
    """Writes a bundle over the index: fixed towers, positions as ids, and titles."""
    queries, candidates = (
        np.concatenate([np.zeros((1, embeddings.shape[1]), np.float32), embeddings])  # row 0: unknown ids
        for embeddings in (prepared.queries, prepared.index.embeddings)
    )
    ids = np.arange(len(candidates) - 1)
    bundles.save(
        folder,
        model=FixedTowers(queries, candidates),
        queries=Vocabulary(np.arange(len(queries) - 1)),
        candidates=Vocabulary(ids),
        corpus=Table(ids, {"title": np.array([f"title {number}" for number in ids])}),
        seen=Lists.empty(len(queries)),
        index=prepared.index,
        facts={},
    )


def copy(graph, state):
    """Returns a new hnswlib graph with the state of another."""
    new = type(graph).__new__(type(graph))
    new.__setstate__(state)
    return new


def read_all(files: list[pathlib.Path]) -> list[np.ndarray]:
    """Returns the bytes of each file."""
    return [np.fromfile(path, np.uint8) for path in files]


def digests(files: list[pathlib.Path]) -> list[str]:
    """Returns the SHA-256 of each file."""
    return [hashlib.sha256(content).hexdigest() for content in read_all(files)]


def forget(files: list[pathlib.Path]) -> None:
    """Drops files from the page cache of the system, where it supports that (Linux)."""
    for path in files if hasattr(os, "posix_fadvise") else ():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
