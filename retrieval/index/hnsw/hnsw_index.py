"""`HnswIndex`: approximate search for large inner products in a graph of hnswlib, with promises that hnswlib lacks.

A query gets k candidates, or all that are left, for any graph and any exclusions, filters and deletions; scores are the
inner products; all settings survive save and load. Where the graph alone cannot keep these promises, exact search
answers. Without a filter an answer depends neither on the other queries of the batch nor on the number of threads; with
a filter, the size of the batch decides which of the two searches costs less.
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
from retrieval.index.hnsw.spaces import INNER_PRODUCT, NORMALIZED, SPACES, query_points
from retrieval.index.subset import Subset

LIMITS = {
    "M": (2, 10_000),  # hnswlib crashes on 0, cannot allocate with 1, and cuts larger values to 10,000
    "ef_construction": (1, 2**31 - 1),
    "ef": (1, 2**31 - 1),
    "seed": (0, 2**32 - 1),
}
_FOUND = 1 << 21  # candidates that the graph finds in one call, over all queries: bounds the memory of a batch


@dataclasses.dataclass(frozen=True)
class HnswSettings:
    """Settings of a graph, see `HnswIndex.build` for their meaning.

    Raises:
      ValueError: a setting is out of range.
    """

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
    """Finds large inner products among fixed candidates in a graph; `build` or `load` makes one.

    Any number of threads may search it at the same time. Source: Malkov and Yashunin (2020), "Efficient and robust
    approximate nearest neighbor search using hierarchical navigable small world graphs".

    >>> index = HnswIndex.build([[1, 0], [0, 2], [3, 3]], M=16, ef_construction=100, ef=50, seed=0)
    >>> scores, positions = index.search([[1, 1]], k=2, excluded=[[1]])
    >>> scores.tolist(), positions.tolist()
    ([[6.0, 1.0]], [[2, 0]])

    Attributes:
      embeddings: float32 [n, d], read-only; the graph holds a second copy.
      settings: of the graph and its search.
      metrics: numbers that are saved with the index, e.g. `recall_at_10`.
      graph: hnswlib's index; its labels are positions, its ef that of the settings.
      costs: times and reaches that decide between graph and exact search under a filter.
      certificate: of the choice that `tune` made; None if the index was built without `tune`.
      threads: number of threads of a search; 0: all cores. Not saved.
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
        """Builds the index; with one thread, which adds the vectors in order, it has the same bytes each time.

        Takes about O(n ef_construction M d) time and O(n (d + M)) memory. A zero vector is legal: it scores 0.

        Args:
          embeddings: [n, d], converted to float32 and copied.
          M: most neighbours of a node, twice that in the lowest layer.
          ef_construction: number of candidates considered as neighbours of a new node; hnswlib raises it to M.
          ef: number of candidates that a search considers; from n on, search is exact.
          seed: of the random layer of each node.
          space: distance of the graph, one of `retrieval.index.hnsw.spaces`.
          threads: number of threads that add vectors; with more than one the graph differs each time. 0: all cores.

        Raises:
          ValueError: the matrix is empty or not two-dimensional, a row is not finite or its squared norm
            exceeds float32, or a setting is out of range.
        """
        settings = HnswSettings(M=M, ef_construction=ef_construction, ef=ef, seed=seed, space=space)
        check_threads(threads)
        vectors = as_corpus(embeddings)
        return cls(vectors, settings, {}, graphs.build(vectors, threads=threads, **dataclasses.asdict(settings)))

    def _find(self, queries, k: int, banned: Lists | None, subset: Subset | None):
        """Searches the graph where that costs less than exact search, and exactly for the other queries.

        The graph considers max(k, ef) candidates; with a filter or exclusions, so many that k are left, but no more
        than its measured reach. Exact search takes O(m d) time a query for m allowed candidates. It answers where the
        reach is too short, where it costs less, where the graph would have to consider the whole corpus, and where the
        graph found fewer than k.
        """
        if subset is not None and len(subset) == len(self):
            subset = None
        scores, positions = nothing(len(queries), k)
        needs_exact = np.zeros(len(queries), bool)
        # One call of hnswlib has one width. Were it that of the query with the most exclusions, the answer of a query
        # would depend on the others of its batch, so queries of the same surplus are searched together.
        surplus = np.zeros(len(queries), np.int64) if banned is None else _surplus(banned)
        for shared_surplus in np.unique(surplus).tolist():
            members = np.flatnonzero(surplus == shared_surplus)
            width = self._width(len(queries), k, shared_surplus, subset)
            if width is None or width >= len(self):
                needs_exact[members] = True
                continue
            step = max(1, _FOUND // width)
            for start in range(0, len(members), step):
                block = members[start : start + step]
                block_banned = None if banned is None else banned.take(block)
                scores[block], positions[block] = self._approximate(queries[block], k, width, block_banned, subset)
        needs_exact |= positions[:, -1] < 0
        if needs_exact.all():  # the same without copies
            return super()._find(queries, k, banned, subset)
        if needs_exact.any():
            members = np.flatnonzero(needs_exact)
            members_banned = None if banned is None else banned.take(members)
            scores[members], positions[members] = super()._find(queries[members], k, members_banned, subset)
        return scores, positions

    def _width(self, num_queries: int, k: int, surplus: int, subset: Subset | None) -> int | None:
        """Returns the number of candidates that the graph must consider; None: too many, or exact search costs less."""
        num_allowed = len(self) if subset is None else len(subset)
        found = plan.width(self.costs, k, self.settings.ef, num_allowed, len(self), surplus)
        if found is None:
            return None
        width, seconds = found
        if subset is None:  # reaches are measured only while they cost less than exact search of the whole corpus
            return width
        size, is_gathered = num_allowed * self.embeddings.shape[1], subset.has_gathered(self.embeddings)
        exact_seconds = plan.exact_seconds(self.costs, num_queries, size, is_gathered)
        return None if seconds * num_queries > exact_seconds else width

    def _approximate(self, queries, k: int, width: int, banned: Lists | None, subset: Subset | None):
        """Returns scores and positions of the best k allowed candidates among the `width` that the graph finds."""
        is_plain = banned is None and subset is None and self.settings.space != NORMALIZED
        found = self._traverse(query_points(queries, self.settings.space), k if is_plain else width)
        if not is_plain:
            is_left_out = found < 0
            if subset is not None:
                is_left_out |= ~subset.mask[found]
            if banned is not None:
                is_left_out |= _contains(banned, found)
            found[is_left_out] = -1
            if self.settings.space != NORMALIZED:
                # The graph orders by inner product, so only the first k that are left are scored. In the normalized
                # space it orders by angle, and all that are left are scored.
                order = np.argsort(is_left_out, axis=1, kind="stable")[:, :k]
                found = np.take_along_axis(found, order, axis=1)
        return best(score(self.embeddings, queries, found), found, k)

    def _traverse(self, queries: Float32[np.ndarray, "q D"], count: int) -> Int32[np.ndarray, "q {count}"]:
        """Returns the positions that the graph finds, nearest first; all -1 for a query that finds fewer than `count`.

        hnswlib considers max(ef, `count`) candidates. hnswlib 0.8 never frees the answer of a call that raises, 12
        bytes a candidate: build with a larger M where that is common.
        """
        try:
            return self.graph.knn_query(queries, k=count, num_threads=self.threads or -1)[0].astype(np.int32)
        except RuntimeError:  # one query of the batch finds fewer: hnswlib does not say which
            if len(queries) == 1:
                return np.full((1, count), -1, np.int32)
            return np.concatenate([self._traverse(query[None], count) for query in queries])

    def rebuilt(self, embeddings: ArrayLike) -> HnswIndex:
        """Builds an index over other vectors, see `Searcher.rebuilt`; deterministic, as one thread builds it."""
        new = self.build(embeddings, **dataclasses.asdict(self.settings))
        return dataclasses.replace(new, costs=self.costs, threads=self.threads)

    def parts(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Returns the content of the index file: a record and arrays by name."""
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
        """Makes the index from the record and arrays of `parts`.

        Raises:
          ValueError: record and arrays do not fit each other.
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
    """Returns an upper bound of the number of exclusions of each query: the least 2**i - 1 that is not below it.

    So few widths occur in a batch, and the width of a query does not depend on the other queries.
    """
    return (1 << np.ceil(np.log2(banned.lengths + 1)).astype(np.int64)) - 1


def _contains(lists: Lists, found: Int32[np.ndarray, "q w"]) -> Bool[np.ndarray, "q w"]:
    """Tells which of the positions found for each query are in the list of the query."""
    owners = np.repeat(np.arange(len(found)), found.shape[1])
    return lists.sets().contain(owners, found.ravel()).reshape(found.shape)
