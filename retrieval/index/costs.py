"""Measures what the plan of a filtered search needs to know of a machine, a corpus and a graph."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Int32

from retrieval.index.exact import ExactIndex
from retrieval.index.hnsw import HnswIndex
from retrieval.index.plan import Costs

LEAST_SECONDS, MOST_ROUNDS = 0.02, 5  # a search is timed for
_ROWS, _BATCH, DEPTHS = 8192, 256, 7  # candidates and queries that costs are measured on, and doublings of the depth

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


def measure_costs(
    whole: ExactIndex, index: HnswIndex, queries: Float32[np.ndarray, "q d"], k: int, target: float, clock: Clock
) -> Costs:
    """Returns what the plan of a filtered search needs to know of this machine, corpus and graph."""
    rows = np.random.default_rng(0).permutation(len(whole))[:_ROWS]
    numbers = len(rows) * whole.embeddings.shape[1]
    part, batch = ExactIndex.build(whole.embeddings[rows]), queries[:_BATCH]
    product = max(timed(lambda: part.search(batch, k), clock) / (numbers * len(batch)), 1e-15)
    return Costs(
        product=product,
        stream=max(timed(lambda: part.search(batch[:1], k), clock) / numbers, 1e-15),
        gather=max(timed(lambda: whole.embeddings[rows], clock) / numbers, 1e-15),
        reaches=tuple(_reaches(whole, index, batch, k, target, product * whole.embeddings.size, clock)),
    )


def _reaches(whole, index: HnswIndex, queries, k: int, target: float, most: float, clock: Clock):
    """Yields depth, width and seconds a query up to which the graph finds enough, in less than `most` seconds."""
    deepest = min(k << (DEPTHS - 1), len(whole))
    truth = whole.search(queries, deepest)[1]
    wide, depth = index.settings.ef, k
    while depth <= deepest:
        wide = max(wide, depth)
        while True:
            searched = at(index, wide)
            seconds = timed(lambda searched=searched: searched.search(queries, searched.settings.ef), clock)
            if seconds > most * len(queries) or wide >= len(whole):
                at(index, index.settings.ef)
                return
            found = searched.search(queries, wide)[1]
            if _share_found(found, truth[:, :depth]) >= target:
                break
            wide = math.ceil(1.5 * wide)
        yield depth, wide, max(seconds / len(queries), 1e-12)
        depth *= 2
    at(index, index.settings.ef)


def _share_found(found: Int32[np.ndarray, "q w"], truth: Int32[np.ndarray, "q d"]) -> float:
    return float(np.mean([np.isin(own, of).mean() for own, of in zip(truth, found, strict=True)]))
