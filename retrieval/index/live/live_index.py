"""An index by raw id that is changed while it is searched: no reader waits, and none sees half of a change."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float32, Shaped
from numpy.typing import ArrayLike

from retrieval.data.ids import Ids, as_ids
from retrieval.index import files
from retrieval.index.checks import as_vectors, check_flag, check_k, check_listed
from retrieval.index.filters import Filter
from retrieval.index.interface import Answers, Searcher
from retrieval.index.live import changes
from retrieval.index.live import files as live_files
from retrieval.index.live.snapshot import Snapshot, concatenate, take

LOG = logging.getLogger(__name__)
KIND = "live"
REBUILD_AT = 0.2  # of the candidates changed


class LiveIndex:
    """Candidates by raw id, integers or strings, with attributes to filter by; `build` or `load` makes one.

    It holds a snapshot that never changes: a base that was built, a mask of what has gone from it, and a segment of
    what has come since, which is searched exactly. A change makes a new snapshot beside it and puts it in place by one
    assignment. A search takes the snapshot that is there when it begins. Any number of threads may search; writers wait
    for each other. When more than `rebuild_at` of the candidates changed, a new base is built in the background, and
    another one after it where as many changed meanwhile.

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
        self._lock = threading.Lock()  # of the writers
        self._rebuilding = threading.Lock()
        self._worker: threading.Thread | None = None
        self._error: Exception | None = None

    @classmethod
    def build(
        cls,
        ids: Sequence | Ids,
        base: Searcher,
        attributes: Mapping[str, Shaped[np.ndarray, "n ..."] | Sequence] | None = None,
        rebuild_at: float = REBUILD_AT,
        zeros: bool = False,
    ) -> LiveIndex:
        """Gives a searcher ids and attributes.

        Args:
          ids: the raw id of each position, each once.
          base: `ExactIndex.build(...)`, `HnswIndex.build(...)`, or what `tune` chose; a rebuild uses its settings.
          attributes: columns by name, [n] each, or [n, size] of vectors, as of a `Table`; `Filter`s read the former.
          rebuild_at: the share of changed candidates that starts a rebuild; inf: only `rebuild` does.
          zeros: takes zero vectors of the base, which score 0 with each query. False: they are refused.

        Raises:
          ValueError: an id is there twice, its vector is zero, lengths differ, an attribute is neither text nor
            numbers, or `rebuild_at` is below 0.
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
        """The ids of all candidates, in no order."""
        return self._snapshot.alive_ids()

    @property
    def snapshot(self) -> Snapshot:
        """The state that a search which begins now answers from."""
        return self._snapshot

    def search(
        self,
        queries: ArrayLike,
        k: int,
        *,
        exclude: Sequence | None = None,
        filter: Filter | None = None,
    ) -> Answers:
        """Finds the k candidates with the largest inner products, of those that are left; about, in a graph.

        Args:
          queries: [q, d].
          k: at least 1.
          exclude: ids that each query must not get, one list for each; ids that are not there are ignored.
          filter: what may be found, for all queries. None: everything.

        Raises:
          ValueError: an argument does not fit, or the filter names an attribute that is not there.
        """
        snapshot = self._snapshot
        vectors = as_vectors(queries, "queries", snapshot.base.embeddings.shape[1])
        check_k(k)
        if exclude is not None:
            check_listed("exclude", exclude, len(vectors))
        return snapshot.search(vectors, k, exclude, filter)

    def similar(self, ids: Sequence | Ids, k: int, *, filter: Filter | None = None) -> Answers:
        """Finds the k candidates with the largest inner products with each of `ids`, but for itself.

        Raises:
          ValueError: an id is not there, or an argument does not fit.
        """
        snapshot, ids = self._snapshot, as_ids(ids, "ids")
        check_k(k)
        return snapshot.search(snapshot.vectors(ids), k, list(ids[:, None]), filter)

    def vectors(self, ids: Sequence | Ids) -> Float32[np.ndarray, "m d"]:
        """Returns the vectors of ids.

        Raises:
          ValueError: an id is not there.
        """
        return self._snapshot.vectors(ids)

    def add(
        self,
        ids: Sequence | Ids,
        embeddings: ArrayLike,
        attributes: Mapping[str, Shaped[np.ndarray, "m ..."] | Sequence] | None = None,
    ) -> None:
        """Adds candidates, in place of those whose ids are there: all at once, for any search that begins after it.

        Takes O(n + r d) time for r candidates since the last rebuild: add many at a time.

        Args:
          ids: [m], each once.
          embeddings: [m, d].
          attributes: the same columns as `build` had.

        Raises:
          ValueError: an id is there twice in `ids`, a vector is not finite or zero, or columns differ.
        """
        with self._lock:
            self._snapshot = changes.added(self._snapshot, ids, embeddings, attributes)
        self._rebuild_if_due()

    def remove(self, ids: Sequence | Ids) -> None:
        """Removes candidates, all at once, for any search that begins after it; O(n + r d) time as `add`.

        Raises:
          ValueError: an id is not there; none is removed then.
        """
        with self._lock:
            self._snapshot = changes.removed(self._snapshot, ids)
        self._rebuild_if_due()

    def rebuild(self) -> None:
        """Builds a new base of what is there now, and puts it in place; searches and changes go on meanwhile.

        The one that runs in the background is waited for first.

        Raises:
          ValueError: there is no candidate left to build from.
        """
        with self._rebuilding:
            if not len(old := self._snapshot):
                raise ValueError("an index needs a candidate to be built from, all were removed; add some")
            self._replace(old)

    def wait(self) -> None:
        """Waits for what is rebuilt in the background, if there is something.

        Raises:
          Exception: what ended the last one; the index is then as it was, and the next change tries again.
        """
        worker = self._worker
        if worker is not None:
            worker.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _replace(self, old: Snapshot) -> None:
        """Puts a base of what was there in `old` in place, with what has changed since."""
        table = concatenate(take(old.filters.table, old.alive), old.recent.table)
        base = old.base.rebuilt(np.concatenate([old.base.embeddings[old.alive], old.recent.vectors]))
        built = changes.fresh(base, table, old.stamp)
        with self._lock:
            self._snapshot = changes.caught_up(built, self._snapshot)

    def _is_due(self) -> bool:
        return self._snapshot.changed > self.rebuild_at and len(self._snapshot) > 0

    def _rebuild_if_due(self) -> None:
        with self._lock:
            if self._worker is None and self._is_due():
                worker = threading.Thread(target=self._rebuild_while_due, daemon=True)
                try:
                    worker.start()
                except RuntimeError as error:  # no more threads: the change itself did not fail
                    self._failed(error)
                else:
                    self._worker, self._error = worker, None

    def _rebuild_while_due(self) -> None:
        """Rebuilds until no more has changed than may: no write need come to tell of those that came meanwhile."""
        try:
            while self._goes_on():
                with self._rebuilding:
                    if len(old := self._snapshot):  # all may have been removed since
                        self._replace(old)
        except Exception as error:
            with self._lock:
                self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Keeps what ended a rebuild for `wait`, which raises it in the thread of a caller, and tells of it at once."""
        LOG.error("the index was not rebuilt, the next change tries again: %r", error)
        self._error, self._worker = error, None

    def _goes_on(self) -> bool:
        """Tells whether the background has to rebuild; if not, the next write that makes it due starts it anew."""
        with self._lock:
            if not self._is_due():
                self._worker = None
            return self._worker is not None

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes what is there now into `folder`, in place of an index that is there, whole or not at all.

        Raises:
          OSError: the folder cannot be written.
        """
        record, arrays = live_files.parts(self._snapshot)
        fields = {"kind": KIND, "figures": {}, "rebuild_at": min(self.rebuild_at, 1e300)}
        files.save(folder, fields | record, arrays)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> LiveIndex:
        """Reads what `save` wrote, once it is verified.

        Raises:
          ValueError: a file is missing or damaged, or has another format version.
        """
        with files.opened(folder, KIND) as (record, arrays):
            try:
                return cls(live_files.from_parts(record, arrays), float(record["rebuild_at"]))
            except (KeyError, TypeError, IndexError, ValueError) as error:
                raise ValueError(f"{folder}: record and arrays must fit, got {error!r}; save it again") from error
