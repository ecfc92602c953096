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

LEAST_SECONDS = 0.02  # seconds for which a search is timed, unless it ran `MOST_ROUNDS` times before
MOST_ROUNDS = 5
TURNS = 5  # runs of each of two searches that are compared
_ROWS, _BATCH = 8192, 256  # candidates and queries on which times are measured
_QUERIES = 1024  # queries on which reaches are certified
DEPTHS = 7  # depths at which a reach is measured, each twice the one before

Clock = Callable[[], float]


def at(index: HnswIndex, ef: int) -> HnswIndex:
    """Returns the index at another ef. Both share one graph, so the given index must not be searched any more."""
    index.graph.set_ef(ef)
    return dataclasses.replace(index, settings=dataclasses.replace(index.settings, ef=ef))


def timed(call: Callable[[], object], clock: Clock) -> float:
    """Measures the least seconds of a call, after a first call that is not timed: it fills caches."""
    call()
    least, total, rounds = math.inf, 0.0, 0
    while rounds < 2 or (total < LEAST_SECONDS and rounds < MOST_ROUNDS):
        started = clock()
        call()
        seconds = clock() - started
        least, total, rounds = min(least, seconds), total + seconds, rounds + 1
    return least


def timed_in_turn(first: Callable[[], object], second: Callable[[], object], clock: Clock) -> tuple[float, float]:
    """Measures the median seconds of two calls that take turns, so that other load of the machine delays both."""
    seconds = np.empty((TURNS, 2))
    for turn, call in itertools.product(range(TURNS), range(2)):
        started = clock()
        (first, second)[call]()
        seconds[turn, call] = clock() - started
    return tuple(np.median(seconds, axis=0).tolist())


def measure_costs(
    whole: ExactIndex, index: HnswIndex, queries: Float32[np.ndarray, "q d"], k: int, target: float, clock: Clock
) -> Costs:
    """Measures the times and reaches by which `hnsw.plan` decides under filters and exclusions.

    Args:
      whole: exact search of the corpus.
      index: a graph over the same corpus.
      queries: [q, d], at least one.
      k: length of the lists.
      target: recall that a reach must have.
      clock: returns seconds.
    """
    rows = np.random.default_rng(0).permutation(len(whole))[:_ROWS]
    numbers = len(rows) * whole.embeddings.shape[1]
    sample, batch = ExactIndex.build(whole.embeddings[rows]), queries[:_BATCH]
    # a clock too coarse for the call measures 0, which `Costs` refuses; hence the least time of 1e-15 seconds
    product = max(timed(lambda: sample.search(batch, k), clock) / (numbers * len(batch)), 1e-15)
    reaches = tuple(_reaches(whole, index, queries[:_QUERIES], k, target, product * whole.embeddings.size, clock))
    at(index, index.settings.ef)
    return Costs(
        product=product,
        stream=max(timed(lambda: sample.search(batch[:1], k), clock) / numbers, 1e-15),
        gather=max(timed(lambda: whole.embeddings[rows], clock) / numbers, 1e-15),
        reaches=reaches,
    )


def _reaches(whole, index: HnswIndex, queries, k: int, target: float, limit: float, clock: Clock):
    """Yields depths, with width and seconds a query of the search that finds the best candidates up to each depth.

    The recall must be certified as `target` twice: of all candidates up to the depth, and of the last k of these, which
    are the answer to a query that excludes the others. The first depth, k, has the certificate of the index and is
    yielded at any cost. Greater depths are yielded while their search takes at most `limit` seconds a query.
    """
    batch, width = queries[:_BATCH], max(k, index.settings.ef)
    yield k, width, _seconds(at(index, width), batch, clock)
    deepest = min(k << (DEPTHS - 1), len(whole))
    truth = whole.search(queries, deepest)[1]
    for depth in (k << doublings for doublings in range(1, DEPTHS)):
        width = max(width, depth)
        while (seconds := _seconds(at(index, width), batch, clock)) <= limit and width < len(whole):
            if _is_enough(at(index, width), queries, truth[:, :depth], k, target):
                break
            width = math.ceil(1.5 * width)
        else:  # too slow, or as wide as the corpus
            return
        yield depth, width, seconds


def _seconds(index: HnswIndex, queries: Float32[np.ndarray, "q d"], clock: Clock) -> float:
    """Measures the seconds a query of a search that returns all candidates that the graph considers."""
    return max(timed(lambda: index.search(queries, index.settings.ef), clock) / len(queries), 1e-12)


def _is_enough(index: HnswIndex, queries, truth: Int32[np.ndarray, "q depth"], k: int, target: float) -> bool:
    """Tells whether a search of width ef has certified recall `target` of the truth, and of the last k of it."""
    found = index.search(queries, index.settings.ef)[1]
    hits = np.array([np.isin(expected, answer) for expected, answer in zip(truth, found, strict=True)])
    return min(lower_bound(hits.mean(axis=1)), lower_bound(hits[:, -k:].mean(axis=1))) >= target
