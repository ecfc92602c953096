"""Chooses how a corpus is searched: the cheapest setting whose recall is certified on the user's own queries.

Half of the queries choose, the other half certify: the bound is that of queries which had no part in the choice. On a
large corpus, spaces and graphs are compared on a sample of it, and the winner is built, tuned and certified in full.
Recall is that of the k best of all; that it is no less of the k best that are left, whatever is excluded, is what the
measured reach of the graph is for, see `retrieval.index.hnsw.plan`.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Float64, Int32
from numpy.typing import ArrayLike

from retrieval.index.certificate import LEVEL, Certificate, CurvePoint, lower_bound
from retrieval.index.checks import as_vectors, check_k, check_threads
from retrieval.index.exact.exact_index import ExactIndex
from retrieval.index.hnsw.hnsw_index import LIMITS, HnswIndex
from retrieval.index.hnsw.spaces import SPACES
from retrieval.index.interface import Searcher
from retrieval.index.tuning.costs import Clock, at, measure_costs, timed
from retrieval.index.tuning.recall import recall_of_each

MOST_COMPARED = 30_000  # candidates of the sample that settings are compared on
GRAPHS = ((16, 100), (32, 200))  # M and ef_construction, the cheaper first
MOST_EF, STEPS = 4096, 2  # of a doubling
BEYOND = 2  # points of the curve after the first that meets the target
SMALL = 1 << 19  # numbers of a corpus that is searched exactly, whatever a clock says: two megabytes
WORTH = 2.0  # times that a graph must be faster than exact search: what a busy machine mistakes, and recall 1 is worth


@dataclasses.dataclass(frozen=True, eq=False)
class Sample:
    """Queries that choose, and the exact answers."""

    queries: Float32[np.ndarray, "q d"]
    truth: Int32[np.ndarray, "q k"]
    exact_seconds: float  # a query


@dataclasses.dataclass(frozen=True)
class Choices:
    """What may be chosen; "" and 0 are any.

    Attributes:
      kind: "exact", or "hnsw".
      space: what the graph measures.
      M: neighbours of a node.
      ef_construction: candidates considered for them.
      ef: candidates that a search considers; then recall is what it is.

    Raises:
      ValueError: a choice is none of these, or out of range.
    """

    kind: str = ""
    space: str = ""
    M: int = 0
    ef_construction: int = 0
    ef: int = 0

    def __post_init__(self):
        if self.kind not in ("", ExactIndex.kind, HnswIndex.kind):
            raise ValueError(f"kind must be 'exact', 'hnsw' or '', the cheaper of them, got {self.kind!r}")
        if self.space not in ("", *SPACES):
            raise ValueError(f"space must be one of {', '.join(SPACES)}, or '' for any, got {self.space!r}")
        for name in ("M", "ef_construction", "ef"):
            value, (low, high) = getattr(self, name), LIMITS[name]
            if type(value) is not int or not (value == 0 or low <= value <= high):
                raise ValueError(f"{name} must be an integer in [{low}, {high}], or 0 for any, got {value!r}")

    def graphs(self) -> list[tuple[str, int, int]]:
        """Returns space, M and ef_construction of the graphs to try, those of a space from cheap to dear."""
        spaces = [self.space] if self.space else list(SPACES)
        pairs = [(self.M or M, self.ef_construction or width) for M, width in GRAPHS]
        return [(space, *pair) for space in spaces for pair in dict.fromkeys(pairs)]

    def widths(self, k: int, num_candidates: int) -> list[int]:
        """Returns the values of ef to try, ascending."""
        if self.ef:
            return [self.ef]
        most = max(k, min(MOST_EF, num_candidates // 2))
        count = math.ceil(STEPS * math.log2(most / k))
        return sorted({min(most, round(k * 2 ** (i / STEPS))) for i in range(count + 1)})


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

    Exact search where a graph is not twice as fast, or where none reaches the target, and for corpora of at most 2**19
    numbers, 16,384 candidates of 32. Where a graph is asked for and none reaches the target, the one of the highest
    recall, which its certificate tells. Which setting is the fastest depends on the machine and its load; the index of
    given settings is the same each time. Takes the time of a few graphs over at most 30,000 candidates and of one over
    all.

    Args:
      embeddings: of the candidates [n, d].
      queries: a sample of the real ones [q, d], two at least; some thousands certify .99 without much waste.
      clock: returns seconds, as `time.perf_counter`.
      k: length of the lists.
      target: below 1.
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
    sample = _sample_of(whole, vectors[chooses], k, clock)
    point = CurvePoint(ExactIndex.kind, "", 0, 0, 0, len(whole), 1.0, 1.0, 1e6 * sample.exact_seconds)
    found, curve, reason = _Search(choices, k, target, seed, threads, clock).graph(whole, sample, vectors[certifies])
    if found is None:
        certificate = Certificate(k, target, 1.0, 1.0, 0, True, reason, point, (point, *curve))
        return dataclasses.replace(whole, figures=_figures(certificate), certificate=certificate)
    certificate = _certificate_of(found, k, target, point, curve)
    index = dataclasses.replace(found.index, figures=_figures(certificate), certificate=certificate)
    costs = measure_costs(whole, index, sample.queries, k, target, clock)
    return dataclasses.replace(at(index, found.point.ef), costs=costs)


@dataclasses.dataclass(frozen=True, eq=False)
class _Certified:
    """A graph at an ef, its point of the curve, and its recall on the queries that certify, with a bound."""

    index: HnswIndex
    point: CurvePoint
    shares: Float64[np.ndarray, " q"]
    bound: float


def check(*, k: int, target: float, seed: int, threads: int) -> None:
    """Checks arguments of `tune` that need no corpus.

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


@dataclasses.dataclass(frozen=True)
class _Search:
    """The search for a graph."""

    choices: Choices
    k: int
    target: float
    seed: int
    threads: int
    clock: Clock

    def graph(self, whole: ExactIndex, sample: Sample, held_out: Float32[np.ndarray, "q d"]):
        """Returns the certified graph, what was tried, and, where the graph is None, why exact search is right."""
        microseconds = 1e6 * sample.exact_seconds
        if self.choices.kind == ExactIndex.kind:
            return None, [], "exact search was asked for"
        if not self.choices.kind and whole.embeddings.size <= SMALL:
            reason = f"exact search takes {microseconds:.3g} µs a query over a corpus that fits the cache of a core"
            return None, self.first_curve(whole, sample), reason
        best, curve = self.best_graph(whole, sample)
        if best is None:
            reason = f"exact search takes {microseconds:.3g} µs a query, and no graph of recall {self.target} half that"
            if lower_bound(np.ones(len(sample.queries))) < self.target:
                asked = len(sample.queries) + len(held_out)
                reason += f"; {asked} queries are too few to be sure of {self.target}"
            return None, curve, reason
        points = [p for p in curve if _graph_of(p) == _graph_of(best) and p.num_candidates == len(whole)]
        found = self.certify(best, points, held_out, whole.search(held_out, self.k)[1])
        return found, curve, f"no graph that is faster than exact search is certified to have recall {self.target}"

    def best_graph(self, whole: ExactIndex, sample: Sample) -> tuple[HnswIndex | None, list[CurvePoint]]:
        """Returns the graph over the whole corpus that is the cheapest to meet the target, and all that was tried."""
        graphs, curve = self.choices.graphs(), []
        if len(graphs) > 1 and len(whole) > MOST_COMPARED:
            rows = np.random.default_rng(self.seed).choice(len(whole), MOST_COMPARED, replace=False)
            part = ExactIndex.build(whole.embeddings[np.sort(rows)])
            of_part = _sample_of(part, sample.queries, self.k, self.clock)
            best, _, curve = self._compare(graphs, part, of_part, math.inf)
            graphs = [graphs[0] if best is None else _graph_of(best)]
        limit = math.inf if self.choices.kind else sample.exact_seconds / WORTH
        best, index, tried = self._compare(graphs, whole, sample, limit)
        return (None if best is None else index), [*curve, *tried]

    def first_curve(self, whole: ExactIndex, sample: Sample) -> list[CurvePoint]:
        """Returns the curve of the first graph alone, to be shown beside exact search."""
        return self._compare(self.choices.graphs()[:1], whole, sample, math.inf)[2]

    def _compare(self, graphs: Sequence[tuple[str, int, int]], corpus: ExactIndex, sample: Sample, limit: float):
        """Returns the cheapest point below `limit` seconds that meets the target, its index, and all points."""
        best, best_index, curve, hopeless = None, None, [], set()
        for space, M, ef_construction in graphs:
            if space in hopeless:
                continue
            settings = {"space": space, "M": M, "ef_construction": ef_construction, "seed": self.seed, "ef": self.k}
            index = HnswIndex.build(corpus.embeddings, threads=self.threads, **settings)
            bound = limit if best is None else min(limit, 1e-6 * best.microseconds)  # beyond it no point is the best
            points = list(self._points(index, sample, bound))
            curve += points
            if points[0].microseconds >= 1e6 * bound:
                hopeless.add(space)  # the next graph of the space has more links, and is slower still
            for point in points:
                if self._is_good(point, limit) and (best is None or point.microseconds < best.microseconds):
                    best, best_index = point, at(index, point.ef)
        if best is None and self.choices.kind and curve:  # a graph was asked for: that of the highest recall
            best = max(curve, key=lambda point: (point.recall, -point.microseconds))
            best_index = at(index, best.ef) if _graph_of(index) == _graph_of(best) else None
            if best_index is None:
                space, M, ef_construction = _graph_of(best)
                settings = {"space": space, "M": M, "ef_construction": ef_construction, "seed": self.seed}
                best_index = HnswIndex.build(corpus.embeddings, threads=self.threads, ef=best.ef, **settings)
        return best, best_index, curve

    def _is_good(self, point: CurvePoint, limit: float) -> bool:
        return point.microseconds < 1e6 * limit and point.lower_bound >= self.target

    def _points(self, index: HnswIndex, sample: Sample, limit: float) -> Iterator[CurvePoint]:
        """Yields the curve of a graph, until it is beyond the target, or takes `limit` seconds a query."""
        beyond = 0
        for ef in self.choices.widths(self.k, len(index)):
            searched = at(index, ef)
            seconds = timed(lambda searched=searched: searched.search(sample.queries, self.k), self.clock)
            shares = recall_of_each(searched, sample.queries, sample.truth)
            microseconds = 1e6 * seconds / len(sample.queries)
            point = CurvePoint(
                HnswIndex.kind, *_graph_of(index), ef, len(index), *_mean_and_bound(shares), microseconds
            )
            yield point
            beyond += point.lower_bound >= self.target or point.recall == 1.0  # of which few queries are not sure
            if beyond > BEYOND or microseconds >= 1e6 * limit:
                return

    def certify(self, index: HnswIndex, points: Sequence[CurvePoint], queries, truth) -> _Certified | None:
        """Returns the index at the first ef, from the chosen on, whose recall on held-out queries is sure enough.

        Each further look at the same queries has half the chance to be wrong of the one before, so that all of them
        together are wrong no more often than the level says. None: no ef of the curve is good enough; where a graph was
        asked for, the widest.
        """
        found = None
        for tries, point in enumerate(p for p in points if p.ef >= index.settings.ef):
            shares = recall_of_each(at(index, point.ef), queries, truth)
            z = statistics.NormalDist().inv_cdf(1 - (1 - LEVEL) / 2 / (1 if len(points) == 1 else 2 ** (tries + 1)))
            bound = lower_bound(shares, z)
            found = _Certified(at(index, point.ef), point, shares, bound)
            if bound >= self.target:
                return found
        return found if self.choices.kind else None


def _sample_of(corpus: ExactIndex, queries: Float32[np.ndarray, "q d"], k: int, clock: Clock) -> Sample:
    seconds = timed(lambda: corpus.search(queries, k), clock)
    return Sample(queries, corpus.search(queries, k)[1], seconds / len(queries))


def _mean_and_bound(shares: Float64[np.ndarray, " q"]) -> tuple[float, float]:
    return float(shares.mean()), lower_bound(shares)


def _graph_of(described: CurvePoint | HnswIndex) -> tuple[str, int, int]:
    settings = described if isinstance(described, CurvePoint) else described.settings
    return settings.space, settings.M, settings.ef_construction


def _figures(certificate: Certificate) -> dict[str, float]:
    name = f"recall_at_{certificate.k}"
    return {name: certificate.recall, f"{name}_lower_bound": certificate.lower_bound}


def _certificate_of(
    found: _Certified, k: int, target: float, of_exact: CurvePoint, curve: Sequence[CurvePoint]
) -> Certificate:
    return Certificate(
        k=k,
        target=target,
        recall=float(found.shares.mean()),
        lower_bound=found.bound,
        num_queries=len(found.shares),
        is_reached=found.bound >= target,
        reason=_reason(found.point, of_exact, found.bound, k, target),
        chosen=found.point,
        curve=(of_exact, *curve),
    )


def _reason(chosen: CurvePoint, of_exact: CurvePoint, bound: float, k: int, target: float) -> str:
    times = f"it takes {chosen.microseconds:.3g} µs a query, exact search {of_exact.microseconds:.3g}"
    if bound < target:
        return f"a graph was asked for: recall@{k} is at least {bound:.4f}, less than {target}; {times}"
    return f"the cheapest setting whose recall@{k} is surely at least {target}; {times}"
