"""Chooses how a corpus is searched: the cheapest setting whose recall is certified on the user's own queries.

Half of the queries choose, the other half certify: the bound is that of queries which had no part in the choice. On a
large corpus, spaces and graphs are compared on a sample of it, and the winner is built, tuned and certified in full.
Recall is that of the k best of the whole corpus. That it is no lower for the k best that filters and exclusions leave
is what the measured reach of the graph is for, see `retrieval.index.hnsw.plan`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import ArrayLike

from retrieval.index.certificate import CurvePoint
from retrieval.index.checks import as_vectors, check_k, check_threads
from retrieval.index.exact.exact_index import ExactIndex
from retrieval.index.hnsw.hnsw_index import LIMITS
from retrieval.index.interface import Searcher
from retrieval.index.tuning.certification import with_certificate, with_certificate_of_exact
from retrieval.index.tuning.choices import Choices
from retrieval.index.tuning.costs import Clock, at, measure_costs
from retrieval.index.tuning.graph_search import ChoosingQueries, GraphSearch


def tune(
    embeddings: ArrayLike,
    queries: ArrayLike,
    *,
    clock: Clock,
    k: int = 10,
    target: float = 0.99,
    seed: int = 0,
    threads: int = 1,
    choices: Choices | None = None,
) -> Searcher:
    """Returns the index that answers in the least time with a recall@k that is surely at least `target`.

    The index is exact search if no graph is twice as fast, if no graph reaches the target, or if the corpus has at most
    2**19 numbers (16,384 candidates of 32 dimensions). If a graph is asked for and none reaches the target, it is the
    graph of the highest recall, and its certificate says so. Which setting is the fastest depends on the machine and
    its load; the index of given settings is the same each time. Takes the time of a few graphs over at most 30,000
    candidates and of one graph over all.

    Args:
      embeddings: of the candidates [n, d].
      queries: a sample of the real queries [q, d], two at least; some thousands certify .99 without much waste.
      clock: returns seconds, as `time.perf_counter`.
      k: length of the lists.
      target: recall, below 1.
      seed: of the halves, the sample of candidates, and the graphs.
      threads: that build; 1 builds the same graph each time. 0: all of the machine.
      choices: what may be chosen; None: anything.

    Raises:
      ValueError: an argument does not fit.
    """
    check(k=k, target=target, seed=seed, threads=threads)
    choices = Choices() if choices is None else choices
    whole = ExactIndex.build(embeddings)
    vectors = as_vectors(queries, "queries", whole.embeddings.shape[1])
    if len(vectors) < 2:
        raise ValueError(f"queries must be two at least, one half to choose and one to certify, got {len(vectors)}")
    k = min(k, len(whole))
    order = np.random.default_rng(seed).permutation(len(vectors))
    chooses, certifies = np.sort(order[: len(order) // 2]), np.sort(order[len(order) // 2 :])
    choosing = ChoosingQueries.answered(whole, vectors[chooses], k, clock)
    exact = CurvePoint(ExactIndex.kind, "", 0, 0, 0, len(whole), 1.0, 1.0, 1e6 * choosing.exact_seconds)
    search = GraphSearch(choices, k, target, seed, threads, clock)
    found, curve, reason = search.run(whole, choosing, vectors[certifies])
    if found is None:
        return with_certificate_of_exact(whole, k, target, reason, exact, curve)
    index = with_certificate(found, k, target, exact, curve)
    costs = measure_costs(whole, index, choosing.queries, k, target, clock)
    return dataclasses.replace(at(index, found.point.ef), costs=costs)


def check(*, k: int, target: float, seed: int, threads: int) -> None:
    """Checks the arguments of `tune` that need no corpus.

    Raises:
      ValueError: one is out of range.
    """
    check_k(k)
    check_threads(threads)
    if not 0 < target < 1:
        raise ValueError(f"target must be in (0, 1), got {target}; exact search has recall 1: choose kind 'exact'")
    low, high = LIMITS["seed"]
    if type(seed) is not int or not low <= seed <= high:
        raise ValueError(f"seed must be an integer in [{low}, {high}], got {seed!r}")
