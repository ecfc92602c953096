"""`Snapshot`: an immutable state of a live index, and its search."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, Shaped

from retrieval.common.lists import Lists
from retrieval.data import columns as columns_lib
from retrieval.data.ids import Ids, as_ids
from retrieval.data.interactions import Table
from retrieval.index.checks import without_zero_queries
from retrieval.index.exact.scan import exact_top
from retrieval.index.filter_hints import tell_unmatched
from retrieval.index.filters import MOST_KEPT, Filter, Filters, check_filter
from retrieval.index.interface import Answers, Searcher
from retrieval.index.subset import Norms, Subset


@dataclasses.dataclass(frozen=True, eq=False)
class Segment:
    """The candidates that were added after the base was built; they are searched exactly.

    Attributes:
      table: ids and attributes of the candidates.
      vectors: float32 [m, d].
      stamps: number of the change that added each candidate [m].
    """

    table: Table
    vectors: Float32[np.ndarray, "m d"]
    stamps: Int64[np.ndarray, " m"]

    @functools.cached_property
    def norms(self) -> Norms:
        """The norms of the vectors."""
        return Norms.from_vectors(self.vectors)

    def within_reach(self, queries: Float32[np.ndarray, "q d"], worst: Float32[np.ndarray, " q"]) -> Subset | None:
        """Returns the candidates long enough to score above `worst` with any query, by Cauchy-Schwarz; None: all."""
        lengths = np.maximum(np.sqrt(np.vecdot(queries, queries), dtype=np.float64), np.finfo(np.float32).tiny)
        least = float((worst / lengths).min(initial=np.inf))
        mask = self.norms.values * (1 + 1e-4) >= least  # 1e-4 is far more than the rounding of the norms
        return None if mask.all() else Subset(mask)

    @functools.cached_property
    def filters(self) -> Filters:
        """Filters over these candidates."""
        return Filters(self.table)

    def take(self, kept: Bool[np.ndarray, " m"]) -> Segment:
        """Returns the segment of the candidates that a mask keeps."""
        return Segment(take(self.table, kept), self.vectors[kept], self.stamps[kept])

    def join(self, other: Segment) -> Segment:
        """Joins two segments with the same columns."""
        return Segment(
            concatenate(self.table, other.table),
            np.concatenate([self.vectors, other.vectors]),
            np.concatenate([self.stamps, other.stamps]),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Snapshot:
    """The candidates of a live index at one time: a base, a mask of its removed candidates, and the added ones.

    A place is a position in the base, or, from the size of the base on, that size plus an index into the segment.

    Attributes:
      base: searches the candidates that it was built from.
      filters: filters over the base, with its table of ids and attributes.
      alive: whether each candidate of the base is still in the index [n].
      recent: candidates added since the base was built.
      stamp: number of changes so far.
    """

    base: Searcher
    filters: Filters
    alive: Bool[np.ndarray, " n"]
    recent: Segment
    stamp: int

    def __len__(self) -> int:
        return self.num_alive + len(self.recent.table)

    def __reduce__(self):  # answers hold a snapshot for their attributes; compiled filters are not pickled
        return Snapshot, tuple(getattr(self, field.name) for field in dataclasses.fields(self))

    @functools.cached_property
    def num_alive(self) -> int:
        """The number of candidates of the base that are still in the index."""
        return int(self.alive.sum())

    @functools.cached_property
    def changed(self) -> float:
        """The number of candidates that the base lacks or should lack, as a share of the base."""
        return (len(self.alive) - self.num_alive + len(self.recent.table)) / max(len(self.alive), 1)

    @functools.cached_property
    def _subsets(self):
        # a cache that refers to `self` would keep the snapshot and its base in memory until garbage is collected
        return functools.lru_cache(MOST_KEPT)(functools.partial(_alive, self.alive, self.num_alive, self.filters))

    def search(
        self, queries: Float32[np.ndarray, "q d"], k: int, exclude: Sequence | None, wanted: Filter | None
    ) -> Answers:
        """Finds the best candidates of base and segment; `LiveIndex.search` has checked the arguments."""
        if wanted is not None:
            check_filter(wanted)
        banned, banned_recent = self._excluded(exclude)
        scores, places = self.base.search(queries, k, banned, self._subsets(wanted))
        if len(self.recent.table):
            # only vectors long enough to beat the k-th best of the base for some query are scored
            subset = self.recent.within_reach(queries, scores[:, -1])
            if wanted is not None:
                filtered = self.recent.filters.subset(wanted)
                subset = filtered if subset is None else Subset(filtered.mask & subset.mask)
            recent = self.recent.vectors, queries, k, self.recent.norms, banned_recent, subset
            recent_scores, recent_places = exact_top(*recent)
            recent_places[recent_places >= 0] += len(self.alive)
            scores = np.concatenate([scores, recent_scores], axis=1)
            places = np.concatenate([places, recent_places], axis=1)
            # stable: of tied scores the candidate of the base, which has the lower place, comes first
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
            scores, places = np.take_along_axis(scores, order, axis=1), np.take_along_axis(places, order, axis=1)
            scores, places = without_zero_queries(queries, scores, places)
        if wanted is not None and len(queries) and (places < 0).all():
            tell_unmatched(wanted, concatenate(take(self.filters.table, self.alive), self.recent.table))
        ids = _at(self.filters.table.ids, self.recent.table.ids, places)
        return Answers(ids, scores, functools.partial(self._attribute, places))

    def _attribute(self, places: Int32[np.ndarray, "q k"], name: str) -> Shaped[np.ndarray, "q k ..."] | None:
        """Returns an attribute of the candidates at places; None if the index has none of this name."""
        if name not in self.filters.table.columns:
            return None
        return _at(self.filters.table.columns[name], self.recent.table.columns[name], places)

    def _excluded(self, exclude: Sequence | None) -> tuple[Lists | None, Lists | None]:
        """Returns the positions of excluded ids in the base and in the segment; other ids are ignored."""
        if exclude is None:
            return None, None
        lists = [as_ids(ids, f"exclude[{query}]") for query, ids in enumerate(exclude)]
        all_ids = np.concatenate([ids for ids in lists if len(ids)] or [np.zeros(0, np.int64)])
        owners = np.repeat(np.arange(len(lists)), [len(ids) for ids in lists])
        parts = []
        for table in (self.filters.table, self.recent.table):
            positions = table.positions(all_ids)
            known = positions >= 0
            parts.append(Lists.from_pairs(owners[known], positions[known], len(lists)))
        return parts[0], parts[1]

    def vectors(self, ids: Sequence | Ids) -> Float32[np.ndarray, "m d"]:
        """Returns the vectors of ids [m, d].

        Raises:
          ValueError: an id is not in the index.
        """
        positions, recent = self.positions(ids)
        if (missing := (positions < 0) & (recent < 0)).any():
            raise ValueError(f"no candidate {as_ids(ids, 'ids')[missing][0].item()!r} in the index")
        vectors = self.base.embeddings[np.maximum(positions, 0)]
        vectors[recent >= 0] = self.recent.vectors[recent[recent >= 0]]
        return vectors

    def positions(self, ids: Sequence | Ids) -> tuple[np.ndarray, np.ndarray]:
        """Returns the positions of ids in the base and in the segment; -1 where the base or segment lacks an id."""
        positions = self.filters.table.positions(ids)
        return np.where((positions >= 0) & self.alive[positions], positions, -1), self.recent.table.positions(ids)

    def alive_ids(self) -> Ids:
        """Returns the ids of all candidates, those of the base first."""
        return np.concatenate([self.filters.table.ids[self.alive], self.recent.table.ids])


def _alive(alive: Bool[np.ndarray, " n"], num_alive: int, filters: Filters, wanted: Filter | None) -> Subset | None:
    """Returns the candidates of a base that are alive and pass a filter; None: all."""
    if num_alive == len(alive):
        return None if wanted is None else filters.subset(wanted)
    return Subset(alive if wanted is None else alive & filters.subset(wanted).mask)


def take(table: Table, kept: np.ndarray) -> Table:
    """Returns the rows of a table that a mask keeps."""
    return Table(table.ids[kept], {name: column[kept] for name, column in table.columns.items()})


def concatenate(first: Table, second: Table) -> Table:
    """Joins the rows of two tables with the same columns."""
    columns = {name: columns_lib.concatenate(column, second.columns[name]) for name, column in first.columns.items()}
    return Table(np.concatenate([first.ids, second.ids]), columns)


def empty_like(table: Table) -> Table:
    """Returns a table with the same columns and no rows."""
    return take(table, np.zeros(len(table), bool))


def _at(
    base: Shaped[np.ndarray, "n ..."], recent: Shaped[np.ndarray, "m ..."], places: Int32[np.ndarray, "q k"]
) -> Shaped[np.ndarray, "q k ..."]:
    """Returns the values at places of a column, given in its parts of base and segment; zero or "" at place -1."""
    found = base[np.minimum(places, len(base) - 1)]
    if (is_recent := places >= len(base)).any():
        # joined first, since an array of the base would cut longer texts of the segment
        joined = columns_lib.concatenate(found.reshape(-1, *base.shape[1:]), recent[places[is_recent] - len(base)])
        found = joined[: places.size].reshape(found.shape)
        found[is_recent] = joined[places.size :]
    found[places < 0] = columns_lib.blank(found.dtype)
    return found
