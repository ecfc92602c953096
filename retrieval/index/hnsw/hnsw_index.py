"""Approximate maximum-inner-product search over a graph of hnswlib, with promises that hnswlib does not make.

A query gets k candidates, or all that are left, whatever the graph looks like and whatever is excluded, filtered or
deleted; scores are the inner products; every setting is kept through save and load. Where the graph cannot keep these,
exact search does. Without a filter an answer depends neither on the other queries of the batch nor on the number of
threads; with one, the size of the batch decides which of the two searches is the cheaper.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64
from numpy.typing import ArrayLike

from retrieval.common.choices import check_choice
from retrieval.common.lists import Lists
from retrieval.index.certificate import Certificate
from retrieval.index.checks import as_corpus, check_threads, nothing
from retrieval.index.exact.scoring import best, score
from retrieval.index.fixed_index import FixedIndex
from retrieval.index.hnsw import graph as graphs
from retrieval.index.hnsw import plan
from retrieval.index.hnsw.plan import Costs
from retrieval.index.hnsw.spaces import INNER_PRODUCT, NORMALIZED, SPACES, of_queries
from retrieval.index.subset import Subset

LIMITS = {
    "M": (2, 10_000),  # hnswlib crashes on 0, cannot allocate with 1, and cuts what is above
    "ef_construction": (1, 2**31 - 1),
    "ef": (1, 2**31 - 1),
    "seed": (0, 2**32 - 1),
}
_FOUND = 1 << 21  # candidates of the graph that are looked at together: what bounds the memory of a batch


@dataclasses.dataclass(frozen=True)
class HnswSettings:
    """How a graph is built and searched, see `HnswIndex.build`; raises ValueError out of range."""

    M: int
    ef_construction: int
    ef: int
    seed: int
    space: str = INNER_PRODUCT

    def __post_init__(self):
        for name, (low, high) in LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
                raise ValueError(f"{name} must be an integer in [{low}, {high}], got {value!r}")
        check_choice("space", self.space, SPACES)


@dataclasses.dataclass(frozen=True, eq=False)
class HnswIndex(FixedIndex):
    """An index over fixed candidates; `build` or `load` makes one. Threads may search it at the same time.

    >>> index = HnswIndex.build([[1, 0], [0, 2], [3, 3]], M=16, ef_construction=100, ef=50, seed=0)
    >>> scores, positions = index.search([[1, 1]], k=2, excluded=[[1]])
    >>> scores.tolist(), positions.tolist()
    ([[6.0, 1.0]], [[2, 0]])

    Attributes:
      embeddings: float32 [n, d], read-only; the graph holds a second copy.
      settings: what it was built with and is searched with.
      metrics: numbers saved with it, e.g. `recall_at_10`.
      graph: hnswlib's index; its labels are positions, its ef that of the settings.
      costs: what decides between graph and exact search under a filter.
      certificate: how it was chosen, where `tune` did.
      threads: of a search; 0: as many as the machine has. Not saved.
    """

    kind: ClassVar[str] = "hnsw"
    embeddings: Float32[np.ndarray, "n d"]
    settings: HnswSettings
    metrics: Mapping[str, float]
    graph: graphs.Graph
    costs: Costs = dataclasses.field(default_factory=Costs)
    certificate: Certificate | None = None
    threads: int = 0

    def __post_init__(self):
        check_threads(self.threads)

    @classmethod
    def build(
        cls,
        embeddings: ArrayLike,
        *,
        M: int,
        ef_construction: int,
        ef: int,
        seed: int,
        space: str = INNER_PRODUCT,
        threads: int = 1,
    ) -> HnswIndex:
        """Builds the index; with one thread, which adds the rows in order, the same bytes each time.

        Takes about O(n ef_construction M d) time and O(n (d + M)) memory. A zero vector is legal: it scores 0.

        Args:
          embeddings: [n, d], converted to float32 and copied.
          M: neighbours of a node, twice that in the lowest layer.
          ef_construction: candidates considered for them; hnswlib raises it to at least M.
          ef: candidates a search considers; exact from n on.
          seed: of the draw of layers.
          space: what the graph measures, one of `retrieval.index.hnsw.spaces`.
          threads: that add rows; with more than one the graph is another one each time. 0: all of the machine.

        Raises:
          ValueError: the matrix is empty or not two-dimensional, a row is not finite or its squared norm
            exceeds float32, or a setting is out of range.
        """
        settings = HnswSettings(M=M, ef_construction=ef_construction, ef=ef, seed=seed, space=space)
        check_threads(threads)
        vectors = as_corpus(embeddings)
        return cls(vectors, settings, {}, graphs.build(vectors, threads=threads, **dataclasses.asdict(settings)))

    def _find(self, queries, k: int, banned: Lists | None, subset: Subset | None):
        """Asks the graph, where that costs less than exact search, and exact search for what the graph cannot answer.

        The graph considers max(k, ef) candidates, with a filter and exclusions as many as hold k that are left; no more
        than it is known to reach, where that was measured. Exact search answers where that is too few, where it costs
        less, where it is the whole corpus, and where the graph finds too few: O(m d) a query for m allowed ones.
        """
        if subset is not None and len(subset) == len(self):
            subset = None
        scores, positions = nothing(len(queries), k)
        lost = np.zeros(len(queries), bool)
        surplus = np.zeros(len(queries), np.int64) if banned is None else _surplus(banned)
        for more in np.unique(surplus).tolist():
            members = np.flatnonzero(surplus == more)
            wide = self._width(len(queries), k, more, subset)
            if wide is None or wide >= len(self):
                lost[members] = True
                continue
            step = max(1, _FOUND // wide)
            for start in range(0, len(members), step):
                some = members[start : start + step]
                own = None if banned is None else banned.take(some)
                scores[some], positions[some] = self._approximate(queries[some], k, wide, own, subset)
        lost |= positions[:, -1] < 0
        if lost.all():  # nothing is copied
            return super()._find(queries, k, banned, subset)
        if lost.any():
            rest = np.flatnonzero(lost)
            own = None if banned is None else banned.take(rest)
            scores[rest], positions[rest] = super()._find(queries[rest], k, own, subset)
        return scores, positions

    def _width(self, num_queries: int, k: int, surplus: int, subset: Subset | None) -> int | None:
        """Returns how many candidates the graph shall consider; None: exact search costs less, or reaches further."""
        num_allowed = len(self) if subset is None else len(subset)
        found = plan.width(self.costs, k, self.settings.ef, num_allowed, len(self), surplus)
        if found is None or subset is None:  # what lies within reach costs less
            return None if found is None else found[0]
        size, is_gathered = num_allowed * self.embeddings.shape[1], subset.has_gathered(self.embeddings)
        seconds = plan.exact_seconds(self.costs, num_queries, size, is_gathered)
        return None if found[1] * num_queries > seconds else found[0]

    def _approximate(self, queries, k: int, width: int, banned: Lists | None, subset: Subset | None):
        """Returns scores and positions of the best k allowed among the `width` that the graph finds."""
        is_plain = banned is None and subset is None and self.settings.space != NORMALIZED
        found = self._traverse(of_queries(queries, self.settings.space), k if is_plain else width)
        if not is_plain:
            refused = found < 0
            if subset is not None:
                refused |= ~subset.mask[found]
            if banned is not None:
                refused |= _contains(banned, found)
            found[refused] = -1
            if self.settings.space != NORMALIZED:  # the graph's order is that of the scores
                order = np.argsort(refused, axis=1, kind="stable")[:, :k]
                found = np.take_along_axis(found, order, axis=1)
        return best(score(self.embeddings, queries, found), found, k)

    def _traverse(self, queries: Float32[np.ndarray, "q D"], count: int) -> Int32[np.ndarray, "q {count}"]:
        """Returns the positions the graph finds, nearest first, all -1 for a query that reaches fewer than `count`.

        hnswlib considers the larger of its ef and the number asked for. hnswlib 0.8 never frees the answer of a call
        that raises, 12 bytes a candidate: build with a larger M where that is common.
        """
        try:
            return self.graph.knn_query(queries, k=count, num_threads=self.threads or -1)[0].astype(np.int32)
        except RuntimeError:  # speaks for the whole batch
            if len(queries) == 1:
                return np.full((1, count), -1, np.int32)
            return np.concatenate([self._traverse(query[None], count) for query in queries])

    def rebuilt(self, embeddings: ArrayLike) -> HnswIndex:
        """Returns an index over other vectors, see `Searcher.rebuilt`; deterministic: one thread builds it."""
        new = self.build(embeddings, **dataclasses.asdict(self.settings))
        return dataclasses.replace(new, costs=self.costs, threads=self.threads)

    def parts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Returns what a file holds of it: a record and arrays by name."""
        entry, arrays = graphs.to_parts(self.graph)
        record = {
            "kind": self.kind,
            "settings": dataclasses.asdict(self.settings),
            "costs": dataclasses.asdict(self.costs),
            "entry": entry,
            "figures": dict(self.metrics),
            "certificate": None if self.certificate is None else self.certificate.to_record(),
        }
        return record, {"vectors": self.embeddings, **arrays}

    @classmethod
    def from_parts(cls, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> HnswIndex:
        """Returns the index that `parts` described.

        Raises:
          ValueError: they do not fit each other.
        """
        try:
            settings, costs = HnswSettings(**record["settings"]), Costs.from_record(record["costs"])
            vectors = as_corpus(arrays["vectors"])
            certificate = Certificate.from_record(record["certificate"])
            graph = graphs.from_parts(vectors, record["entry"], arrays, **dataclasses.asdict(settings))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the record of the index and its arrays must fit, got {error!r}; save it again"
            ) from error
        return cls(vectors, settings, record["figures"], graph, costs, certificate)


def _surplus(banned: Lists) -> Int64[np.ndarray, " q"]:
    """Returns how many candidates more each query needs for what it must not get, at most.

    2**i - 1, at least what is excluded: few widths, each still a function of its query alone.
    """
    return (1 << np.ceil(np.log2(banned.lengths + 1)).astype(np.int64)) - 1


def _contains(lists: Lists, found: Int32[np.ndarray, "q w"]) -> Bool[np.ndarray, "q w"]:
    owners = np.repeat(np.arange(len(found)), found.shape[1])
    return lists.sets().contain(owners, found.ravel()).reshape(found.shape)
