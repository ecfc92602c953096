"""Measures search by an index beside bare hnswlib and exact search: plain, filtered, and while vectors change."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
import threading
import time
from collections.abc import Iterator

import numpy as np

from retrieval.index import ExactIndex, HnswIndex, LiveIndex, Subset, recall
from retrieval.index.tuning.costs import measure_costs

from .measure import Measurement, interleaved, times_better

K, TARGET = 10, 0.99
M, EF_CONSTRUCTION = 16, 100
SHARES = (0.5, 0.1, 0.01, 0.001)  # of the candidates that pass a filter
SHORT = 0.001  # up to this share a search takes milliseconds, and its median needs more rounds
BLOCK = 64  # queries of a block of plain exact search
READERS, CHANGES = 2, 100
SIGMA, SPREAD, CLUSTER = 0.5, 0.6, 1000  # log-normal norms, spread and size of a cluster


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A graph over a corpus at the least ef that reaches the target recall, queries, and their exact answers."""

    index: HnswIndex
    queries: np.ndarray
    truth: np.ndarray


def clustered(num_candidates: int, num_queries: int, dimension: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns candidates in clusters of about a thousand with log-normal norms, and queries of the same clusters."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(num_candidates // CLUSTER, 16), dimension), np.float32)

    def draw(count):
        noise = SPREAD * rng.standard_normal((count, dimension), np.float32)
        vectors = centres[rng.integers(0, len(centres), count)] + noise
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    norms = rng.lognormal(0, SIGMA, (num_candidates, 1)).astype(np.float32)
    return draw(num_candidates) * norms, draw(num_queries)


@functools.lru_cache(1)
def prepare(num_candidates: int, num_queries: int, dimension: int, cache: str) -> Prepared:
    """Builds the graph, or reads it from the folder `cache` where it was built before."""
    candidates, queries = clustered(num_candidates, num_queries, dimension)
    folder = pathlib.Path(cache) / f"{num_candidates}x{dimension}"
    if cache and folder.exists():
        index = HnswIndex.load(folder)
    else:
        settings = {"M": M, "ef_construction": EF_CONSTRUCTION, "ef": K, "seed": 0}
        index = HnswIndex.build(candidates, threads=0, **settings)
        if cache:
            index.save(folder)
    truth = ExactIndex.build(index.embeddings).search(queries, K)[1]
    for ef in range(K, 100 * K, 2):
        index.graph.set_ef(ef)
        index = dataclasses.replace(index, settings=dataclasses.replace(index.settings, ef=ef))
        if recall(index, queries, truth) >= TARGET:
            break
    whole = ExactIndex.build(index.embeddings)
    costs = measure_costs(whole, index, queries, K, TARGET, time.perf_counter)
    return Prepared(dataclasses.replace(index, costs=costs), queries, truth)


def search(
    num_candidates: int = 1_000_000, num_queries: int = 1024, dimension: int = 64, rounds: int = 9, cache: str = ""
) -> list[Measurement]:
    """Measures the search of a batch, on one thread and on all, beside `knn_query` of the same hnswlib graph."""
    prepared = prepare(num_candidates, num_queries, dimension, cache)
    measurements = []
    for name, threads in (("one_thread", 1), ("all_threads", 0)):
        index = dataclasses.replace(prepared.index, threads=threads)
        library, bare = interleaved(
            functools.partial(index.search, prepared.queries, K),
            functools.partial(index.graph.knn_query, prepared.queries, k=K, num_threads=threads or -1),
            rounds=rounds,
        )
        against = f"bare hnswlib, ef {index.settings.ef}, recall {recall(index, prepared.queries, prepared.truth):.4f}"
        measurements.append(times_better(f"index/search/{name}", library, bare, "s", against, 0.95))
    return measurements


def filtered(
    num_candidates: int = 1_000_000, num_queries: int = 1024, dimension: int = 64, rounds: int = 5, cache: str = ""
) -> Iterator[Measurement]:
    """Measures searches under stricter and stricter filters, beside exact search on the subset or unfiltered search.

    The reference is the faster one; the recall under each filter is a measurement of its own.
    """
    prepared = prepare(num_candidates, num_queries, dimension, cache)
    index, queries, rng = prepared.index, prepared.queries, np.random.default_rng(0)
    order = rng.permutation(num_candidates)
    for part in (*SHARES, 1 / num_candidates):
        mask = np.zeros(num_candidates, bool)
        mask[order[: max(round(part * num_candidates), 1)]] = True
        subset, vectors = Subset(mask), index.embeddings[mask]
        library = functools.partial(index.search, queries, K, None, subset)
        # in pairs: of three functions in turn, the one after the graph would find its vectors out of the caches
        turns = rounds if part > SHORT else 8 * rounds
        beside_exact = interleaved(library, functools.partial(plain_exact, vectors, queries), rounds=turns)
        beside_graph = interleaved(library, functools.partial(index.search, queries, K), rounds=rounds)
        found = recall_of_scores(index.search(queries, K, None, subset)[0], plain_exact(vectors, queries))
        name = f"index/filtered/{part:.4g}" if subset.mask.sum() > 1 else "index/filtered/one"
        yield Measurement(f"{name}/recall", found, TARGET, found / TARGET, "recall", "the target", ">= 1")
        if beside_exact[1] < 2 * beside_graph[1]:
            yield times_better(name, *beside_exact, "s", "exact on the subset", 1.0)
        else:
            half = 2 * beside_graph[1]
            yield times_better(name, beside_graph[0], half, "s", "half the unfiltered queries a second", 1.0)


def update(
    num_candidates: int = 1_000_000,
    num_queries: int = 1024,
    dimension: int = 64,
    window: float = 4.0,
    rounds: int = 3,
    cache: str = "",
) -> list[Measurement]:
    """Measures the queries a second of two readers while a writer replaces 1 % of the vectors, beside no writer."""
    prepared = prepare(num_candidates, num_queries, dimension, cache)
    base = dataclasses.replace(prepared.index, threads=1)
    rates: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(rounds):
        for is_written in rates:
            index = LiveIndex.build(np.arange(num_candidates), base, rebuild_at=np.inf)
            rates[is_written].append(reading_rate(index, prepared.queries, window, is_written))
    with_writer, without = (float(np.median(rates[is_written])) for is_written in (True, False))
    ratio = with_writer / without
    return [Measurement("index/update", with_writer, without, ratio, "queries/s", "no writer", ">= 0.7")]


def small(num_candidates: int = 1682, dimension: int = 33, rounds: int = 200) -> list[Measurement]:
    """Measures exact search over a corpus as large as MovieLens 100K, of a batch and of one query, beside NumPy."""
    candidates, queries = clustered(num_candidates, 1024, dimension)
    index = ExactIndex.build(candidates)
    measurements = []
    for name, batch in (("batch", queries), ("single", queries[:1])):
        library, plain = interleaved(
            functools.partial(index.search, batch, K),
            functools.partial(plain_exact, index.embeddings, batch),
            rounds=rounds,
        )
        measurements.append(times_better(f"index/small/{name}", library, plain, "s", "plain NumPy", 0.95))
    return measurements


def plain_exact(candidates: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Returns the best scores by a matrix product, a selection and a sort, a block of queries at a time."""
    best = []
    k = min(K, len(candidates))
    for start in range(0, len(queries), BLOCK):
        scores = queries[start : start + BLOCK] @ candidates.T
        positions = np.argpartition(scores, -k, axis=1)[:, -k:]
        best.append(-np.sort(-np.take_along_axis(scores, positions, axis=1), axis=1))
    return np.concatenate(best)


def recall_of_scores(scores: np.ndarray, exact: np.ndarray) -> float:
    """Returns the share of scores that are no worse than the last exact one, but for rounding."""
    worst = exact[:, -1:] - 1e-5 * np.abs(exact[:, -1:])
    return float(np.minimum((scores >= worst).sum(axis=1), exact.shape[1]).mean() / exact.shape[1])


def reading_rate(index: LiveIndex, queries: np.ndarray, window: float, is_written: bool) -> float:
    """Returns the queries a second of the readers.

    Raises:
      AssertionError: an answer has a candidate twice, is not sorted, or is too short.
    """
    counts, errors, stop = [0] * READERS, [], threading.Event()

    def read(reader):
        try:
            while not stop.is_set():
                answers = index.search(queries[:BLOCK], K)
                ids = np.sort(answers.ids, axis=1)
                assert (
                    answers.found.all() and (ids[:, 1:] != ids[:, :-1]).all() and (np.diff(answers.scores) <= 0).all()
                )
                counts[reader] += BLOCK
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(reader,)) for reader in range(READERS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    if is_written:
        replace(index, window, started)
    time.sleep(max(0.0, started + window - time.perf_counter()))
    stop.set()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return sum(counts) / (time.perf_counter() - started)


def replace(index: LiveIndex, window: float, started: float) -> None:
    """Replaces 1 % of the vectors in a hundred changes, evenly spaced over the window."""
    rng = np.random.default_rng(1)
    ids = rng.permutation(len(index))[: max(len(index) // 100, CHANGES)]
    for change, changed_ids in enumerate(np.array_split(ids, CHANGES)):
        index.add(changed_ids, rng.permuted(index.vectors(changed_ids), axis=1))
        time.sleep(max(0.0, started + window * (change + 1) / CHANGES - time.perf_counter()))
