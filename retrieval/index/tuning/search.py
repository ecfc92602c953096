"""`tune`: chooses the cheapest index of a corpus whose recall is certified on queries of the user.

A quarter of the queries chooses the settings, the others certify them: only queries that had no part in the choice give
an honest bound, and a bound needs more queries than a choice. On a large corpus, spaces and graphs are compared on a
sample of it, and the best graph is built, tuned and certified in full. The certified recall is that of the k best of
the whole corpus. Under filters and exclusions, the measured reach of the graph keeps recall as high, see
`retrieval.index.hnsw.plan`.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike

from retrieval.common.list_length import check_k
from retrieval.index.certificate import CurvePoint
from retrieval.index.checks import as_vectors, check_threads
from retrieval.index.exact.exact_index import ExactIndex
from retrieval.index.hnsw.hnsw_index import LIMITS, HnswIndex
from retrieval.index.interface import Searcher
from retrieval.index.tuning.certification import CertifiedGraph, with_certificate, with_certificate_of_exact
from retrieval.index.tuning.choices import Choices
from retrieval.index.tuning.costs import Clock, at, measure_costs, timed_in_turn
from retrieval.index.tuning.graph_search import WORTH, ChoosingQueries, GraphSearch

CHOOSING = 4  # one of four queries chooses


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
    """Chooses the index that answers in the least time with a certified recall@k of at least `target`.

    The index is exact search if that takes less than 50 microseconds a query on this machine, if no graph is twice as
    fast, measured in turn, or if no graph is certified to reach the target: at 0.99, that needs at least 444 held-out
    queries. If a graph is asked for and none reaches the target, the index is the graph of the highest recall, and its
    certificate says so. The fastest setting depends on the machine and its load; for given settings the index is the
    same each time. Takes the time to build a few graphs over at most 30,000 candidates and one graph over all.

    Args:
      embeddings: of the candidates [n, d].
      queries: a sample of the real queries [q, d]; a few thousand certify a target of 0.99 at little cost. With a
        single query the index is exact search, which needs no certificate, unless a graph is asked for.
      clock: returns seconds, as `time.perf_counter`.
      k: length of the lists.
      target: recall, below 1.
      seed: of the division of the queries, the sample of candidates, and the graphs.
      threads: number of threads that build; 1 builds the same graph each time. 0: all cores.
      choices: restricts kind and settings; None: no restriction.

    Returns:
      An `ExactIndex` or `HnswIndex` with its certificate and metrics.

    Raises:
      ValueError: an argument does not fit.
    """
    check(k=k, target=target, seed=seed, threads=threads)
    choices = Choices() if choices is None else choices
    whole = ExactIndex.build(embeddings)
    vectors = as_vectors(queries, "queries", whole.embeddings.shape[1])
    if not len(vectors):
        raise ValueError("queries must be a sample of the real ones, one at least, got none")
    if (has_answer := vectors.any(axis=1)).any():  # a zero query has no answer
        vectors = vectors[has_answer]
    k = min(k, len(whole))
    order = np.random.default_rng(seed).permutation(len(vectors))
    chooses, certifies = np.split(order, [max(1, len(order) // CHOOSING)])
    queries, held_out = vectors[np.sort(chooses)], vectors[np.sort(certifies)]
    choosing = ChoosingQueries.answered(whole, queries, k, len(held_out), clock)
    exact = CurvePoint(ExactIndex.kind, "", 0, 0, 0, len(whole), 1.0, 1.0, 1e6 * choosing.exact_seconds)
    if not len(held_out) or not has_answer.any():
        if choices.kind == HnswIndex.kind:
            raise ValueError(
                "a graph needs two queries at least that are not zero, one to choose and one to certify it, "
                f"got {has_answer.sum()}"
            )
        reason = f"a graph is certified on two queries at least that are not zero, got {has_answer.sum()}"
        return with_certificate_of_exact(whole, k, target, reason, exact, [])
    search = GraphSearch(choices, k, target, seed, threads, clock)
    found, curve, reason = search.run(whole, choosing, held_out)
    if found is None:
        return with_certificate_of_exact(whole, k, target, reason, exact, curve)
    first_timing = found.point
    exact, found = compared(exact, found, whole, queries, k, clock)
    curve = [found.point if point == first_timing else point for point in curve]
    if not choices.kind and exact.microseconds < WORTH * found.point.microseconds:
        times = f"{found.point.microseconds:.3g} µs a query, exact search {exact.microseconds:.3g}"
        reason = f"measured in turn, the graph takes {times}"
        return with_certificate_of_exact(whole, k, target, reason, exact, curve)
    index = with_certificate(found, k, target, exact, curve)
    costs = measure_costs(whole, index, held_out, k, target, clock)
    return dataclasses.replace(at(index, found.point.ef), costs=costs)


def compared(
    exact: CurvePoint,
    found: CertifiedGraph,
    whole: ExactIndex,
    queries: Float32[np.ndarray, "q d"],
    k: int,
    clock: Clock,
) -> tuple[CurvePoint, CertifiedGraph]:
    """Measures exact search and the graph in turn; returns both with these times."""
    seconds = timed_in_turn(lambda: whole.search(queries, k), lambda: found.index.search(queries, k), clock)
    exact_time, graph_time = (1e6 * second / len(queries) for second in seconds)
    point = dataclasses.replace(found.point, microseconds=graph_time)
    return dataclasses.replace(exact, microseconds=exact_time), dataclasses.replace(found, point=point)


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
