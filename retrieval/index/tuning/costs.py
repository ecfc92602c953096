"""Measures the costs by which `hnsw.plan` decides between a graph and exact search, on this machine and corpus."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int32

from retrieval.index.certificate import lower_bound
from retrieval.index.exact.exact_index import ExactIndex
from retrieval.index.hnsw.hnsw_index import HnswIndex
from retrieval.index.hnsw.plan import Costs

LEAST_SECONDS, MOST_ROUNDS = 0.02, 5  # a search is timed for
TURNS = 5  # of two searches that are compared
_ROWS, _BATCH = 8192, 256  # candidates and queries that times are measured on
_QUERIES, DEPTHS = 1024, 7  # that reaches are certified on, and doublings of the depth

Clock = Callable[[], float]


def at(index: HnswIndex, ef: int) -> HnswIndex:
    """Returns the index at another ef; they share a graph, and the one that was given must be searched no more."""
    index.graph.set_ef(ef)
    return dataclasses.replace(index, settings=dataclasses.replace(index.settings, ef=ef))


def timed(call: Callable[[], object], clock: Clock) -> float:
    """Returns the least seconds that a call takes, after one that pays for what the others share."""
    call()
    best, spent, rounds = math.inf, 0.0, 0
    while rounds < 2 or (spent < LEAST_SECONDS and rounds < MOST_ROUNDS):
        started = clock()
        call()
        seconds = clock() - started
        best, spent, rounds = min(best, seconds), spent + seconds, rounds + 1
    return best


def timed_in_turn(first: Callable[[], object], second: Callable[[], object], clock: Clock) -> tuple[float, float]:
    """Returns the median seconds of two calls that take turns, so that what else the machine does delays both."""
    seconds = np.empty((TURNS, 2))
    for turn, call in itertools.product(range(TURNS), range(2)):
        started = clock()
        (first, second)[call]()
        seconds[turn, call] = clock() - started
    return tuple(np.median(seconds, axis=0).tolist())


def measure_costs(
    whole: ExactIndex, index: HnswIndex, queries: Float32[np.ndarray, "q d"], k: int, target: float, clock: Clock
) -> Costs:
    """Returns the times and reaches by which `hnsw.plan` decides under filters and exclusions."""
    rows = np.random.default_rng(0).permutation(len(whole))[:_ROWS]
    numbers = len(rows) * whole.embeddings.shape[1]
    part, batch = ExactIndex.build(whole.embeddings[rows]), queries[:_BATCH]
    product = max(timed(lambda: part.search(batch, k), clock) / (numbers * len(batch)), 1e-15)
    reaches = tuple(_reaches(whole, index, queries[:_QUERIES], k, target, product * whole.embeddings.size, clock))
    at(index, index.settings.ef)
    return Costs(
        product=product,
        stream=max(timed(lambda: part.search(batch[:1], k), clock) / numbers, 1e-15),
        gather=max(timed(lambda: whole.embeddings[rows], clock) / numbers, 1e-15),
        reaches=reaches,
    )


def _reaches(whole, index: HnswIndex, queries, k: int, target: float, most: float, clock: Clock):
    """Yields depth, width and seconds a query up to which the graph finds enough, in less than `most` seconds.

    Enough is a recall that is surely `target`, of all up to the depth and of the last k there: those are what a query
    gets that must not get the others. The first depth, which the certificate is about, is there whatever it costs.
    """
    few, wide = queries[:_BATCH], max(k, index.settings.ef)
    yield k, wide, _seconds(at(index, wide), few, clock)
    deepest = min(k << (DEPTHS - 1), len(whole))
    truth = whole.search(queries, deepest)[1]
    for depth in (k << doublings for doublings in range(1, DEPTHS)):
        wide = max(wide, depth)
        while (seconds := _seconds(at(index, wide), few, clock)) <= most and wide < len(whole):
            if _is_enough(at(index, wide), queries, truth[:, :depth], k, target):
                break
            wide = math.ceil(1.5 * wide)
        else:
            return
        yield depth, wide, seconds


def _seconds(index: HnswIndex, queries: Float32[np.ndarray, "q d"], clock: Clock) -> float:
    """Returns the time a query of a search that looks at all it considers."""
    return max(timed(lambda: index.search(queries, index.settings.ef), clock) / len(queries), 1e-12)


def _is_enough(index: HnswIndex, queries, truth: Int32[np.ndarray, "q depth"], k: int, target: float) -> bool:
    """Tells whether a search as wide as ef finds the truth, and the last k of it, as surely as meant."""
    found = index.search(queries, index.settings.ef)[1]
    hits = np.array([np.isin(own, found_positions) for own, found_positions in zip(truth, found, strict=True)])
    return min(lower_bound(hits.mean(axis=1)), lower_bound(hits[:, -k:].mean(axis=1))) >= target
