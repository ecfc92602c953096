"""Search by other libraries at the same recall, where they are installed: pip install -e '.[bench]'."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator

import numpy as np

from experiments.benchmarks.index import TARGET, K, prepare
from experiments.benchmarks.measure import Measurement, interleaved
from retrieval.index import ExactIndex
from retrieval.index.hnsw.spaces import EUCLIDEAN, of_candidates, of_queries

Ask = Callable[[np.ndarray], np.ndarray]  # queries -> positions [q, k]
WIDTHS = tuple(10 << i for i in range(11))


def beside(
    num_candidates: int = 100_000, num_queries: int = 1024, dimension: int = 64, rounds: int = 3, cache: str = ""
) -> Iterator[Measurement]:
    """Queries a second of each library at its first setting that reaches the recall, on all threads, beside ours."""
    prepared = prepare(num_candidates, num_queries, dimension, cache)
    candidates, queries, truth = prepared.index.embeddings, prepared.queries, prepared.truth
    ours = functools.partial(prepared.index.search, queries, K)
    exact = ExactIndex.build(candidates)
    for name, settings in {"exact": lambda _: iter([("", lambda q: exact.search(q, K)[1])]), **PEERS}.items():
        if name != "exact" and importlib.util.find_spec(name) is None:
            continue
        setting, ask, found = _first_good(settings(candidates), queries, truth)
        theirs, own = interleaved(functools.partial(ask, queries), ours, rounds=rounds)
        against = f"{name} {setting}, recall {found:.4f}"
        rates = len(queries) / own, len(queries) / theirs
        yield Measurement(f"index/beside/{name}", *rates, rates[0] / rates[1], "queries/s", against, "a table")


def _first_good(settings: Iterator[tuple[str, Ask]], queries, truth) -> tuple[str, Ask, float]:
    """Returns the first setting that reaches the recall, or the last: its name, how it is asked, and its recall."""
    for setting, ask in settings:
        tried = setting, ask, _recall(ask(queries), truth)
        if tried[2] >= TARGET:
            break
    return tried


def _recall(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([np.isin(own, of).mean() for own, of in zip(truth, found, strict=True)]))


def _faiss(candidates: np.ndarray) -> Iterator[tuple[str, Ask]]:
    faiss = importlib.import_module("faiss")
    index = faiss.IndexHNSWFlat(candidates.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = 100
    index.add(candidates)
    for ef in WIDTHS:
        index.hnsw.efSearch = ef
        yield f"HNSW, M 16, ef {ef}", lambda queries: index.search(queries, K)[1]


def _scann(candidates: np.ndarray) -> Iterator[tuple[str, Ask]]:
    scann = importlib.import_module("scann")
    leaves = max(int(len(candidates) ** 0.5), 1)
    builder = scann.scann_ops_pybind.builder(candidates, K, "dot_product")
    builder = builder.tree(num_leaves=leaves, num_leaves_to_search=leaves // 10, training_sample_size=len(candidates))
    index = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100).build()
    for width in WIDTHS:
        if width > 4 * leaves:
            return
        settings = {"leaves_to_search": min(width, leaves), "pre_reorder_num_neighbors": 10 * K}

        def ask(queries, settings=settings):
            return index.search_batched_parallel(queries, **settings)[0].astype(np.int64)

        yield f"{leaves} leaves, {settings['leaves_to_search']} of them searched", ask


def _voyager(candidates: np.ndarray) -> Iterator[tuple[str, Ask]]:
    voyager = importlib.import_module("voyager")
    index = voyager.Index(voyager.Space.InnerProduct, candidates.shape[1], M=16, ef_construction=100)
    index.add_items(candidates.copy())  # takes what can be written alone
    for ef in WIDTHS:
        yield f"M 16, ef {ef}", lambda queries, ef=ef: index.query(queries, K, query_ef=ef)[0].astype(np.int64)


def _annoy(candidates: np.ndarray) -> Iterator[tuple[str, Ask]]:
    annoy = importlib.import_module("annoy")
    held = of_candidates(candidates, EUCLIDEAN)
    index = annoy.AnnoyIndex(held.shape[1], "euclidean")
    index.set_seed(1)
    for position, vector in enumerate(held):
        index.add_item(position, vector)
    index.build(50, n_jobs=os.cpu_count() or 1)
    for nodes in WIDTHS[3:]:

        def ask(queries, nodes=50 * nodes):
            return np.array([index.get_nns_by_vector(q, K, nodes) for q in of_queries(queries, EUCLIDEAN)])

        yield f"50 trees, {50 * nodes} nodes, one thread", ask


PEERS = {"faiss": _faiss, "scann": _scann, "voyager": _voyager, "annoy": _annoy}  # by the name of the module
