"""An index by raw id that is changed while it is searched: no reader waits, and none sees half of a change."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped
from numpy.typing import ArrayLike

from retrieval.data.ids import Ids, as_ids
from retrieval.data.interactions import Table
from retrieval.index import files, kinds
from retrieval.index.arguments import as_vectors, check_k
from retrieval.index.filters import Filter, Filters
from retrieval.index.interface import Answers, Searcher
from retrieval.index.snapshot import Segment, Snapshot, concatenate, empty_like, take

KIND = "live"
REBUILD_AT = 0.2  # of the candidates changed
_HOLDS = {"U": "text", "i": "integers", "u": "unsigned integers", "f": "numbers", "b": "booleans"}  # by kind of type


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
        if not rebuild_at >= 0:
            raise ValueError(f"rebuild_at must be a share, 0 at least, or inf for never, got {rebuild_at}")
        self.rebuild_at = rebuild_at
        self._snapshot = snapshot
        self._lock = threading.Lock()  # of the writers
        self._rebuilding = threading.Lock()
        self._worker: threading.Thread | None = None
        self._error: BaseException | None = None

    @classmethod
    def build(
        cls,
        ids: Sequence | Ids,
        base: Searcher,
        attributes: Mapping[str, Shaped[np.ndarray, " n"] | Sequence] | None = None,
        rebuild_at: float = REBUILD_AT,
        zeros: bool = False,
    ) -> LiveIndex:
        """Gives a searcher ids and attributes.

        Args:
          ids: the raw id of each position, each once.
          base: `ExactIndex.build(...)`, `HnswIndex.build(...)`, or what `tune` chose; a rebuild uses its settings.
          attributes: columns by name, [n] each, as of a `Table`; `Filter`s read them.
          rebuild_at: the share of changed candidates that starts a rebuild; inf: only `rebuild` does.
          zeros: takes zero vectors of the base, which score 0 with each query. False: they are refused.

        Raises:
          ValueError: an id is there twice, its vector is zero, lengths differ, an attribute is neither text nor
            numbers, or `rebuild_at` is below 0.
        """
        table = _as_table(ids, attributes)
        if len(table) != len(base):
            raise ValueError(f"each of the {len(base)} vectors needs an id, got {len(table)} ids")
        if not zeros:
            check_vectors(table.ids, base.embeddings, base.embeddings.shape[1])
        return cls(_fresh(base, table, 0), rebuild_at)

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
        if exclude is not None and (not hasattr(exclude, "__len__") or len(exclude) != len(vectors)):
            got = len(exclude) if hasattr(exclude, "__len__") else repr(exclude)
            raise ValueError(f"exclude must have an entry for each of {len(vectors)} queries, got {got}")
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
        attributes: Mapping[str, Shaped[np.ndarray, " m"] | Sequence] | None = None,
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
            old = self._snapshot
            table = _as_table(ids, attributes, old.filters.table)
            vectors = check_vectors(table.ids, embeddings, old.base.embeddings.shape[1])
            _check_columns(table, old.filters.table)
            kept, alive = _without(old, table.ids)
            new = Segment(table, vectors, np.full(len(table), old.stamp + 1))
            self._snapshot = dataclasses.replace(old, alive=alive, recent=kept.join(new), stamp=old.stamp + 1)
        self._rebuild_if_due()

    def remove(self, ids: Sequence | Ids) -> None:
        """Removes candidates, all at once, for any search that begins after it; O(n + r d) time as `add`.

        Raises:
          ValueError: an id is not there; none is removed then.
        """
        with self._lock:
            old = self._snapshot
            places, recent = old.places(ids)
            if (missing := (places < 0) & (recent < 0)).any():
                raise ValueError(f"no candidate {as_ids(ids, 'ids')[missing][0].item()!r} to remove")
            kept, alive = _without(old, ids)
            self._snapshot = dataclasses.replace(old, alive=alive, recent=kept, stamp=old.stamp + 1)
        self._rebuild_if_due()

    def rebuild(self) -> None:
        """Builds a new base of what is there now, and puts it in place; searches and changes go on meanwhile.

        The one that runs in the background is waited for first.

        Raises:
          ValueError: there is no candidate left to build from.
        """
        with self._rebuilding:
            old = self._snapshot
            table = concatenate(take(old.filters.table, old.alive), old.recent.table)
            if not len(table):
                raise ValueError("an index needs a candidate to be built from, all were removed; add some")
            base = old.base.rebuilt(np.concatenate([old.base.embeddings[old.alive], old.recent.vectors]))
            with self._lock:
                self._snapshot = _caught_up(_fresh(base, table, old.stamp), self._snapshot)

    def wait(self) -> None:
        """Waits for what is rebuilt in the background, if there is something.

        Raises:
          Exception: what ended it; the index is then as it was.
        """
        worker = self._worker
        if worker is not None:
            worker.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _is_due(self) -> bool:
        return self._snapshot.changed > self.rebuild_at and len(self._snapshot) > 0

    def _rebuild_if_due(self) -> None:
        with self._lock:
            if self._worker is None and self._is_due():
                self._worker = threading.Thread(target=self._rebuild_while_due, daemon=True)
                self._worker.start()

    def _rebuild_while_due(self) -> None:
        """Rebuilds until no more has changed than may: no write need come to tell of those that came meanwhile."""
        try:
            while self._goes_on():
                self.rebuild()
        except Exception as error:  # `wait` raises it, in the thread of the caller
            with self._lock:
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
        now = self._snapshot
        record, arrays = now.base.parts()
        base = now.filters.table
        arrays = {f"searcher/{name}": array for name, array in arrays.items()}
        arrays |= {"alive": now.alive, "recent": now.recent.vectors}
        for part, table in {"base": base, "recent": now.recent.table}.items():
            columns = {f"{part}/ids": table.ids}
            columns |= {f"{part}/column/{name}": column for name, column in table.columns.items()}
            arrays |= {name: _to_numbers(column) for name, column in columns.items()}
        texts = [name for name, column in {"": base.ids, **base.columns}.items() if _is_text(column)]
        fields = {"kind": KIND, "searcher": record, "rebuild_at": min(self.rebuild_at, 1e300), "texts": texts}
        files.save(folder, fields | {"figures": {}}, arrays)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> LiveIndex:
        """Reads what `save` wrote, once it is verified.

        Raises:
          ValueError: a file is missing or damaged, or has another format version.
        """
        with files.opened(folder, KIND) as (record, arrays):
            try:
                return cls._of_parts(record, arrays)
            except (KeyError, TypeError, IndexError, ValueError) as error:
                raise ValueError(f"{folder}: record and arrays must fit, got {error!r}; save it again") from error

    @classmethod
    def _of_parts(cls, record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> LiveIndex:
        def under(prefix):
            return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

        def table_of(part):
            columns = {"": arrays[f"{part}/ids"], **under(f"{part}/column/")}
            columns |= {name: _to_text(columns[name]) for name in record["texts"]}
            return Table(columns.pop(""), columns)

        base, recent = table_of("base"), table_of("recent")
        snapshot = _fresh(kinds.of_parts(record["searcher"], under("searcher/")), base, 0)
        _check_columns(recent, base)
        vectors = check_vectors(recent.ids, arrays["recent"], snapshot.base.embeddings.shape[1])
        if arrays["alive"].shape != (len(base),) or arrays["alive"].dtype != bool or len(base) != len(snapshot.base):
            raise ValueError(f"{len(base)} ids for {len(snapshot.base)} vectors and {arrays['alive'].shape} marks")
        segment = Segment(recent, vectors, np.zeros(len(recent), np.int64))
        return cls(dataclasses.replace(snapshot, alive=arrays["alive"], recent=segment), float(record["rebuild_at"]))


def _as_table(ids: Sequence | Ids, attributes: Mapping[str, Any] | None, like: Table | None = None) -> Table:
    columns = {name: np.asarray(column) for name, column in (attributes or {}).items()}
    for name, column in columns.items():
        if like and name in like.columns and like.columns[name].dtype.kind == "f" and column.dtype.kind in "iu":
            columns[name] = column = column.astype(np.float64)  # years of which some were missing
        if column.dtype.kind not in "Uiufb":
            raise ValueError(f"attribute {name!r} must be text or numbers, got {column.dtype}; make it one of them")
    return Table(ids, columns)


def check_vectors(ids: Ids, embeddings: ArrayLike, dimension: int | None = None) -> Float32[np.ndarray, "m d"]:
    """Returns the vectors of candidates, float32.

    Raises:
      ValueError: there is not one for each id, or one is not finite, or zero: nearly always a mistake, and never found.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        vectors = np.asarray(embeddings, np.float32)
        if vectors.ndim != 2 or len(vectors) != len(ids) or dimension not in (None, vectors.shape[1]):
            columns = "d" if dimension is None else dimension
            raise ValueError(f"embeddings must be of shape [{len(ids)}, {columns}], got {vectors.shape}")
        squared = np.vecdot(vectors, vectors)
    for what, is_bad in (("not finite", ~np.isfinite(squared)), ("zero", ~vectors.any(axis=1))):
        if is_bad.any():
            bad = ids[is_bad]
            raise ValueError(
                f"the vector of candidate {bad[0].item()!r} is {what} ({len(bad)} such candidates); "
                "did the training diverge, or does it lack features?"
            )
    return as_vectors(vectors, "embeddings")


def _is_text(column: Shaped[np.ndarray, "n ..."]) -> bool:
    return column.dtype.kind == "U"


def _to_numbers(column: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
    """Returns text as code points [n, width], which files hold as they hold numbers."""
    if not _is_text(column):
        return column
    return np.ascontiguousarray(column).view(np.uint32).reshape(len(column), column.dtype.itemsize // 4)


def _to_text(points: Shaped[np.ndarray, "n width"]) -> Shaped[np.ndarray, " n"]:
    if points.dtype != np.uint32 or points.ndim != 2 or not points.shape[1]:
        raise ValueError(f"text must be code points [n, width], got {points.dtype} of shape {points.shape}")
    if points.max(initial=0) > 0x10FFFF:
        raise ValueError(f"{points.max()} is the code point of no character")
    return np.ascontiguousarray(points).view(f"U{points.shape[1]}")[:, 0]


def _fresh(base: Searcher, table: Table, stamp: int) -> Snapshot:
    recent = Segment(empty_like(table), np.zeros((0, base.embeddings.shape[1]), np.float32), np.zeros(0, np.int64))
    return Snapshot(base, Filters(table), np.ones(len(table), bool), recent, stamp)


def _without(snapshot: Snapshot, ids: Sequence | Ids) -> tuple[Segment, np.ndarray]:
    """Returns what came since without `ids`, and what is still there of the base without them."""
    places, recent = snapshot.places(ids)
    alive, kept = snapshot.alive.copy(), np.ones(len(snapshot.recent.table), bool)
    alive[places[places >= 0]] = False
    kept[recent[recent >= 0]] = False
    return snapshot.recent.take(kept), alive


def _caught_up(fresh: Snapshot, now: Snapshot) -> Snapshot:
    """Returns the freshly built snapshot with what has changed while it was built."""
    since = now.recent.take(now.recent.stamps > fresh.stamp)
    ids = fresh.filters.table.ids
    alive = np.isin(ids, now.alive_ids()) & ~np.isin(ids, since.table.ids)
    return dataclasses.replace(fresh, alive=alive, recent=since, stamp=now.stamp)


def _check_columns(new: Table, old: Table) -> None:
    """Raises ValueError unless the columns, and the types of ids and values, are the same."""
    given, held = (
        {"the id": _HOLDS[table.ids.dtype.kind]}
        | {repr(name): _HOLDS[of.dtype.kind] for name, of in table.columns.items()}
        for table in (new, old)
    )
    for name in [*held, *(given.keys() - held.keys())] if len(new) else []:
        got, expected = given.get(name, "nothing"), held.get(name, "nothing")
        if got != expected:
            raise ValueError(f"attributes must be those of the index: {name} is {expected} there, got {got}")
