"""Measures search by other packages at the same recall, where they are installed: pip install -e '.[bench]'."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator

import numpy as np

from retrieval.index import ExactIndex
from retrieval.index.hnsw.spaces import EUCLIDEAN, candidate_points, query_points

from .index import TARGET, K, prepare
from .measure import Measurement, interleaved

Search = Callable[[np.ndarray], np.ndarray]  # queries -> positions [q, k]
WIDTHS = tuple(10 << i for i in range(11))


def beside(
    num_candidates: int = 100_000, num_queries: int = 1024, dimension: int = 64, rounds: int = 3, cache: str = ""
) -> Iterator[Measurement]:
    """Measures the queries a second of the index beside each package, at its first setting that reaches the recall.

    All of them search on all threads, but for annoy.
    """
    prepared = prepare(num_candidates, num_queries, dimension, cache)
    candidates, queries, truth = prepared.index.embeddings, prepared.queries, prepared.truth
    library = functools.partial(prepared.index.search, queries, K)
    exact = ExactIndex.build(candidates)
    for name, settings in {"exact": lambda _: iter([("", lambda q: exact.search(q, K)[1])]), **PEERS}.items():
        if name != "exact" and importlib.util.find_spec(name) is None:
            continue
        setting, search, found = _first_good(settings(candidates), queries, truth)
        peer_seconds, own_seconds = interleaved(functools.partial(search, queries), library, rounds=rounds)
        against = f"{name} {setting}, recall {found:.4f}"
        rates = len(queries) / own_seconds, len(queries) / peer_seconds
        yield Measurement(f"index/beside/{name}", *rates, rates[0] / rates[1], "queries/s", against, "a table")


def _first_good(settings: Iterator[tuple[str, Search]], queries, truth) -> tuple[str, Search, float]:
    """Returns the first setting that reaches the recall, or else the last: its name, search function and recall."""
    for setting, search in settings:
        tried = setting, search, _recall(search(queries), truth)
        if tried[2] >= TARGET:
            break
    return tried


def _recall(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([np.isin(exact, positions).mean() for exact, positions in zip(truth, found, strict=True)]))


def _faiss(candidates: np.ndarray) -> Iterator[tuple[str, Search]]:
    faiss = importlib.import_module("faiss")
    index = faiss.IndexHNSWFlat(candidates.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 100
    index.add(candidates)
    for ef in WIDTHS:
        index.hnsw.efSearch = ef
        yield f"HNSW, M 16, ef {ef}", lambda queries: index.search(queries, K)[1]


def _scann(candidates: np.ndarray) -> Iterator[tuple[str, Search]]:
    scann = importlib.import_module("scann")
    leaves = max(int(len(candidates) ** 0.5), 1)
    builder = scann.scann_ops_pybind.builder(candidates, K, "dot_product")
    builder = builder.tree(num_leaves=leaves, num_leaves_to_search=leaves // 10, training_sample_size=len(candidates))
    index = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100).build()
    for width in WIDTHS:
        if width > 4 * leaves:
            return
        settings = {"leaves_to_search": min(width, leaves), "pre_reorder_num_neighbors": 10 * K}

        def search(queries, settings=settings):
            return index.search_batched_parallel(queries, **settings)[0].astype(np.int64)

        yield f"{leaves} leaves, {settings['leaves_to_search']} of them searched", search


def _voyager(candidates: np.ndarray) -> Iterator[tuple[str, Search]]:
    voyager = importlib.import_module("voyager")
    index = voyager.Index(voyager.Space.InnerProduct, candidates.shape[1], M=16, ef_construction=100)
    index.add_items(candidates.copy())  # it refuses read-only arrays
    for ef in WIDTHS:
        yield f"M 16, ef {ef}", lambda queries, ef=ef: index.query(queries, K, query_ef=ef)[0].astype(np.int64)


def _annoy(candidates: np.ndarray) -> Iterator[tuple[str, Search]]:
    annoy = importlib.import_module("annoy")
    stored = candidate_points(candidates, EUCLIDEAN)
    index = annoy.AnnoyIndex(stored.shape[1], "euclidean")
    index.set_seed(1)
    for position, vector in enumerate(stored):
        index.add_item(position, vector)
    index.build(50, n_jobs=os.cpu_count() or 1)
    for nodes in WIDTHS[3:]:

        def search(queries, nodes=50 * nodes):
            return np.array([index.get_nns_by_vector(query, K, nodes) for query in query_points(queries, EUCLIDEAN)])

        yield f"50 trees, {50 * nodes} nodes, one thread", search


PEERS = {"faiss": _faiss, "scann": _scann, "voyager": _voyager, "annoy": _annoy}  # by the name of the module
