"""Searches for the cheapest graph that meets a target recall: first on a sample of a large corpus, then in full."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Int32

from retrieval.index.certificate import CurvePoint, least_queries, lower_bound
from retrieval.index.exact.exact_index import ExactIndex
from retrieval.index.hnsw.hnsw_index import HnswIndex
from retrieval.index.tuning.certification import CertifiedGraph, certify, error_of_look
from retrieval.index.tuning.choices import Choices
from retrieval.index.tuning.costs import Clock, at, timed
from retrieval.index.tuning.recall import recall_of_each

MOST_COMPARED = 30_000  # candidates of the sample on which settings are compared
BEYOND = 2  # points of the curve after the first that meets the target
FAST = 50e-6  # seconds a query of exact search below which no graph is tried: the other work for an answer takes longer
WORTH = 2.0  # factor by which a graph must be faster: exact search has recall 1, and times on a busy machine err


@dataclasses.dataclass(frozen=True, eq=False)
class ChoosingQueries:
    """Queries that choose the settings, with their exact answers over a corpus.

    Attributes:
      queries: [q, d].
      truth: positions of the exact top k [q, k].
      exact_seconds: time of exact search a query.
      certifying: number of the other queries, which certify the choice.
    """

    queries: Float32[np.ndarray, "q d"]
    truth: Int32[np.ndarray, "q k"]
    exact_seconds: float
    certifying: int

    @classmethod
    def answered(
        cls, corpus: ExactIndex, queries: Float32[np.ndarray, "q d"], k: int, certifying: int, clock: Clock
    ) -> ChoosingQueries:
        """Answers the queries exactly, and measures the time."""
        seconds = timed(lambda: corpus.search(queries, k), clock)
        return cls(queries, corpus.search(queries, k)[1], seconds / len(queries), certifying)


@dataclasses.dataclass(frozen=True)
class GraphSearch:
    """Settings of the search for a graph; arguments of `tune`, k at most the number of candidates."""

    choices: Choices
    k: int
    target: float
    seed: int
    threads: int
    clock: Clock

    def run(
        self, whole: ExactIndex, choosing: ChoosingQueries, held_out: Float32[np.ndarray, "q d"]
    ) -> tuple[CertifiedGraph | None, list[CurvePoint], str]:
        """Finds a certified graph.

        Returns:
          The graph, or None; all points that were tried; and the reason for exact search if the graph is None.
        """
        microseconds = 1e6 * choosing.exact_seconds
        if self.choices.kind == ExactIndex.kind:
            return None, [], "exact search was asked for"
        if not self.choices.kind and choosing.exact_seconds < FAST:
            reason = f"exact search takes {microseconds:.3g} µs a query, less than the other work for an answer"
            curve = self._compare(self.choices.graphs()[:1], whole, choosing, math.inf)[2]
            return None, curve, reason  # the curve is shown beside exact search
        best, curve = self._best_graph(whole, choosing)
        if best is None:
            reason = f"exact search takes {microseconds:.3g} µs a query, and no graph of recall {self.target} half that"
            if len(held_out) < (needed := least_queries(self.target, error_of_look(0))):
                reason += f"; {len(held_out)} held-out queries cannot certify {self.target}, {needed} can"
            return None, curve, reason
        points = [
            point for point in curve if _graph_of(point) == _graph_of(best) and point.num_candidates == len(whole)
        ]
        found, is_reached = certify(best, points, held_out, whole.search(held_out, self.k)[1], self.target)
        if is_reached or self.choices.kind:
            return found, curve, ""
        return None, curve, f"no graph that is faster than exact search is certified to have recall {self.target}"

    def _best_graph(self, whole: ExactIndex, choosing: ChoosingQueries) -> tuple[HnswIndex | None, list[CurvePoint]]:
        """Finds the cheapest graph over the whole corpus that meets the target; returns it and all points tried."""
        graphs, curve = self.choices.graphs(), []
        if len(graphs) > 1 and len(whole) > MOST_COMPARED:
            rows = np.random.default_rng(self.seed).choice(len(whole), MOST_COMPARED, replace=False)
            sample = ExactIndex.build(whole.embeddings[np.sort(rows)])
            on_sample = ChoosingQueries.answered(sample, choosing.queries, self.k, choosing.certifying, self.clock)
            best, _, curve = self._compare(graphs, sample, on_sample, math.inf)
            graphs = [graphs[0] if best is None else _graph_of(best)]
        limit = math.inf if self.choices.kind else choosing.exact_seconds / WORTH
        best, index, tried = self._compare(graphs, whole, choosing, limit)
        return (None if best is None else index), [*curve, *tried]

    def _compare(
        self, graphs: Sequence[tuple[str, int, int]], corpus: ExactIndex, choosing: ChoosingQueries, limit: float
    ) -> tuple[CurvePoint | None, HnswIndex | None, list[CurvePoint]]:
        """Finds the cheapest point of `graphs` below `limit` seconds a query that meets the target.

        Returns:
          The point and its index, or None and None; and all points that were tried. If a graph was asked for and none
          meets the target, the point is the one of the highest recall.
        """
        best, best_index, curve, slow_spaces = None, None, [], set()
        for graph in graphs:
            if graph[0] in slow_spaces:
                continue
            index = self._build(corpus, graph, self.k)
            bound = limit if best is None else min(limit, 1e-6 * best.microseconds)  # a slower point is not the best
            points = list(self._curve(index, choosing, bound))
            curve += points
            if points[0].microseconds >= 1e6 * bound:
                slow_spaces.add(graph[0])  # the next graph of this space has more links and is slower
            for point in points:
                if self._is_good(point, limit) and (best is None or point.microseconds < best.microseconds):
                    best, best_index = point, at(index, point.ef)
        if best is None and self.choices.kind and curve:  # a graph was asked for: the one of the highest recall
            best = max(curve, key=lambda point: (point.recall, -point.microseconds))
            is_last = _graph_of(index) == _graph_of(best)
            best_index = at(index, best.ef) if is_last else self._build(corpus, _graph_of(best), best.ef)
        return best, best_index, curve

    def _build(self, corpus: ExactIndex, graph: tuple[str, int, int], ef: int) -> HnswIndex:
        """Builds the graph of space, M and ef_construction over a corpus."""
        space, M, ef_construction = graph
        settings = {"space": space, "M": M, "ef_construction": ef_construction, "seed": self.seed, "ef": ef}
        return HnswIndex.build(corpus.embeddings, threads=self.threads, **settings)

    def _is_good(self, point: CurvePoint, limit: float) -> bool:
        """Tells whether a point is below `limit` seconds a query and its lower bound of recall meets the target."""
        return point.microseconds < 1e6 * limit and point.lower_bound >= self.target

    def _curve(self, index: HnswIndex, choosing: ChoosingQueries, limit: float) -> Iterator[CurvePoint]:
        """Yields the points of a graph by ascending ef, until `BEYOND` are past the target or one is too slow."""
        beyond = 0
        for ef in self.choices.widths(self.k, len(index)):
            searched = at(index, ef)
            seconds = timed(lambda searched=searched: searched.search(choosing.queries, self.k), self.clock)
            shares = recall_of_each(searched, choosing.queries, choosing.truth)
            recall, bound = float(shares.mean()), lower_bound(shares, error_of_look(0), choosing.certifying)
            microseconds = 1e6 * seconds / len(choosing.queries)
            yield CurvePoint(HnswIndex.kind, *_graph_of(index), ef, len(index), recall, bound, microseconds)
            beyond += bound >= self.target or recall == 1.0  # with few queries even recall 1 has a low bound
            if beyond > BEYOND or microseconds >= 1e6 * limit:
                return


def _graph_of(described: CurvePoint | HnswIndex) -> tuple[str, int, int]:
    """Returns space, M and ef_construction of the graph of a point or an index."""
    settings = described if isinstance(described, CurvePoint) else described.settings
    return settings.space, settings.M, settings.ef_construction
