"""`LiveIndex`: candidates by raw id that change while they are searched; a search sees each change whole or not yet."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped
from numpy.typing import ArrayLike

from retrieval.common.list_length import check_k
from retrieval.data.ids import Ids, as_ids
from retrieval.index import files
from retrieval.index.checks import as_vectors, check_flag, check_listed
from retrieval.index.filters import Filter
from retrieval.index.interface import Answers, Searcher
from retrieval.index.live import changes, snapshot_parts
from retrieval.index.live.background import BackgroundWork
from retrieval.index.live.snapshot import Snapshot, concatenate, take

KIND = "live"
REBUILD_AT = 0.2  # share of changed candidates


class LiveIndex:
    """Searches candidates by raw id, with attributes to filter by; `build` or `load` makes one.

    Ids are integers or strings.

    The index holds an immutable snapshot: a base that was built, a mask of the candidates removed from it, and a
    segment of the candidates added since, which is searched exactly. A change makes a new snapshot and
    publishes it by one assignment; a search uses the snapshot that is current when it begins, and never waits. Any
    number of threads may search; writers wait for each other. When more than the share `rebuild_at` of the candidates
    has changed, a new base is built in the background, and again if as many changed meanwhile.

    >>> from retrieval.index import ExactIndex
    >>> index = LiveIndex.build(["a", "b", "c"], ExactIndex.build([[1, 0], [0, 2], [3, 3]]))
    >>> index.add(["d", "a"], [[4, 4], [0, 9]])
    >>> index.remove(["c"])
    >>> index.search([[1, 1]], k=4).ids.tolist()
    [['a', 'd', 'b', '']]
    """

    def __init__(self, snapshot: Snapshot, rebuild_at: float = REBUILD_AT):
        if isinstance(rebuild_at, bool) or not isinstance(rebuild_at, int | float | np.number) or not rebuild_at >= 0:
            raise ValueError(f"rebuild_at must be a share, 0 at least, or inf for never, got {rebuild_at!r}")
        self.rebuild_at = float(rebuild_at)
        self._snapshot = snapshot
        self._lock = threading.Lock()  # held by writers
        self._rebuilding = threading.Lock()  # held while a base is built
        self._background = BackgroundWork("the index was not rebuilt")

    @classmethod
    def build(
        cls,
        ids: Sequence | Ids,
        base: Searcher,
        attributes: Mapping[str, Shaped[np.ndarray, "n ..."] | Sequence] | None = None,
        rebuild_at: float = REBUILD_AT,
        zeros: bool = False,
    ) -> LiveIndex:
        """Makes an index from a searcher, and the ids and attributes of its candidates.

        Args:
          ids: the raw id of each position, each once.
          base: `ExactIndex.build(...)`, `HnswIndex.build(...)`, or the result of `tune`; a rebuild uses its settings.
          attributes: columns by name, of values [n] or of vectors [n, size]; a `Filter` reads columns of values only.
          rebuild_at: the share of changed candidates that starts a rebuild; inf: only `rebuild` does.
          zeros: whether the base may have zero vectors, which score 0 with each query.

        Raises:
          ValueError: an id occurs twice, a vector is zero, lengths differ, an attribute is neither text nor numbers, or
            `rebuild_at` is below 0.
        """
        check_flag("zeros", zeros)
        if not isinstance(base, Searcher):
            raise ValueError(f"base must be a searcher, as ExactIndex.build(embeddings) makes one, got {base!r:.80}")
        table = changes.as_table(ids, attributes)
        if len(table) != len(base):
            raise ValueError(f"each of the {len(base)} vectors needs an id, got {len(table)} ids")
        if not zeros:
            changes.check_vectors(table.ids, base.embeddings, base.embeddings.shape[1])
        return cls(changes.fresh(base, table, 0), rebuild_at)

    def __len__(self) -> int:
        return len(self._snapshot)

    @property
    def ids(self) -> Ids:
        """The ids of all candidates, in no particular order."""
        return self._snapshot.alive_ids()

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that a search uses if it begins now."""
        return self._snapshot

    def search(
        self,
        queries: ArrayLike,
        k: int,
        *,
        exclude: Sequence | None = None,
        filter: Filter | None = None,
    ) -> Answers:
        """Finds the k candidates with the largest inner products; approximately, if the base is a graph.

        Args:
          queries: [q, d], converted to float32.
          k: at least 1.
          exclude: ids that each query must not get, a list for each; ids that are not in the index are ignored.
          filter: restricts the candidates of all queries. None: all candidates.

        Raises:
          ValueError: an argument does not fit, or the index lacks an attribute that the filter names.
        """
        snapshot = self._snapshot
        vectors = as_vectors(queries, "queries", snapshot.base.embeddings.shape[1])
        check_k(k)
        if exclude is not None:
            check_listed("exclude", exclude, len(vectors))
        return snapshot.search(vectors, k, exclude, filter)

    def similar(self, ids: Sequence | Ids, k: int, *, filter: Filter | None = None) -> Answers:
        """Finds the k candidates with the largest inner products with each of `ids`, without the candidate itself.

        Raises:
          ValueError: an id is not in the index or its vector is zero, or an argument does not fit.
        """
        snapshot, ids = self._snapshot, as_ids(ids, "ids")
        check_k(k)
        vectors = snapshot.vectors(ids)
        if not (has_data := vectors.any(axis=1)).all():
            raise ValueError(f"the vector of {ids[~has_data][0].item()!r} is zero: it has no neighbours")
        return snapshot.search(vectors, k, list(ids[:, None]), filter)

    def vectors(self, ids: Sequence | Ids) -> Float32[np.ndarray, "m d"]:
        """Returns the vectors of ids [m, d].

        Raises:
          ValueError: an id is not in the index.
        """
        return self._snapshot.vectors(ids)

    def add(
        self,
        ids: Sequence | Ids,
        embeddings: ArrayLike,
        attributes: Mapping[str, Shaped[np.ndarray, "m ..."] | Sequence] | None = None,
    ) -> None:
        """Adds candidates, or replaces those of the same ids: all at once, for each search that begins afterwards.

        Takes O(n + r d) time for r candidates added since the last rebuild: add many at a time.

        Args:
          ids: [m], each once.
          embeddings: [m, d].
          attributes: the same columns as in `build`, of m values or vectors each.

        Raises:
          ValueError: an id occurs twice, a vector is not finite or zero, or columns differ.
        """
        with self._lock:
            self._snapshot = changes.added(self._snapshot, ids, embeddings, attributes)
        self._rebuild_if_due()

    def remove(self, ids: Sequence | Ids) -> None:
        """Removes candidates: all at once, for each search that begins afterwards; O(n + r d) time, as `add`.

        Raises:
          ValueError: an id is not in the index; then none is removed.
        """
        with self._lock:
            self._snapshot = changes.removed(self._snapshot, ids)
        self._rebuild_if_due()

    def rebuild(self) -> None:
        """Builds a new base of the present candidates; searches and changes go on meanwhile.

        If a rebuild runs in the background, this waits for it first.

        Raises:
          ValueError: no candidate is left.
        """
        with self._rebuilding:
            if not len(old := self._snapshot):
                raise ValueError("a rebuild needs at least one candidate, but all were removed; add candidates")
            self._replace(old)

    def wait(self) -> None:
        """Waits for the rebuild in the background, if one runs.

        Raises:
          Exception: the error that ended the last rebuild; the index is unchanged, and the next change tries again.
        """
        self._background.wait()

    def _replace(self, old: Snapshot) -> None:
        """Builds a base of the candidates of `old`, and publishes it with the changes made since."""
        table = concatenate(take(old.filters.table, old.alive), old.recent.table)
        base = old.base.rebuilt(np.concatenate([old.base.embeddings[old.alive], old.recent.vectors]))
        built = changes.fresh(base, table, old.stamp)
        with self._lock:
            self._snapshot = changes.caught_up(built, self._snapshot)

    def _is_due(self) -> bool:
        """Tells whether more than `rebuild_at` of the candidates has changed."""
        return self._snapshot.changed > self.rebuild_at and len(self._snapshot) > 0

    def _rebuild_if_due(self) -> None:
        """Starts a rebuild in the background if one is due and none runs."""
        self._background.start_if_due(self._is_due, self._rebuild_once)

    def _rebuild_once(self) -> None:
        """Rebuilds the present candidates, if any is left; the task of the background thread."""
        with self._rebuilding:
            if len(old := self._snapshot):  # others may have removed all of them meanwhile
                self._replace(old)

    def __reduce__(self):
        """Pickles the present candidates; changes of the copy do not reach this index, nor the reverse."""
        return type(self)._from_parts, (*snapshot_parts.parts(self._snapshot), self.rebuild_at)

    @classmethod
    def _from_parts(cls, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray], rebuild_at: float) -> LiveIndex:
        """Makes the index from the record and arrays of `snapshot_parts.parts`."""
        return cls(snapshot_parts.from_parts(record, arrays), rebuild_at)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the present candidates into `folder`, whole or not at all; an existing index is replaced.

        Raises:
          OSError: the folder cannot be written.
        """
        record, arrays = snapshot_parts.parts(self._snapshot)
        fields = {"kind": KIND, "figures": {}, "rebuild_at": min(self.rebuild_at, 1e300)}
        files.save(folder, fields | record, arrays)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> LiveIndex:
        """Reads an index that `save` wrote, verified.

        Raises:
          ValueError: a file is missing or damaged, or has another format version.
        """
        with files.opened(folder, KIND) as (record, arrays):
            try:
                return cls._from_parts(record, arrays, float(record["rebuild_at"]))
            except (KeyError, TypeError, IndexError, ValueError) as error:
                raise ValueError(f"{folder}: record and arrays must fit, got {error!r}; save it again") from error
