"""Changes of a live index: each checks its arguments and makes the next snapshot."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int32
from numpy.typing import ArrayLike

from retrieval.data.column_values import as_column
from retrieval.data.columns import converted, type_of
from retrieval.data.ids import Ids, as_ids
from retrieval.data.interactions import Table
from retrieval.index.checks import as_matrix, as_vectors
from retrieval.index.filters import Filters
from retrieval.index.interface import Searcher
from retrieval.index.live.snapshot import Segment, Snapshot, empty_like


def fresh(base: Searcher, table: Table, stamp: int) -> Snapshot:
    """Makes the snapshot of a new base without changes."""
    recent = Segment(empty_like(table), np.zeros((0, base.embeddings.shape[1]), np.float32), np.zeros(0, np.int64))
    return Snapshot(base, Filters(table), np.ones(len(table), bool), recent, stamp)


def added(old: Snapshot, ids: Sequence | Ids, embeddings: ArrayLike, attributes: Mapping[str, Any] | None) -> Snapshot:
    """Adds or replaces candidates; see `LiveIndex.add`."""
    table = as_table(ids, attributes, old.filters.table)
    vectors = check_vectors(table.ids, embeddings, old.base.embeddings.shape[1])
    if not len(table):
        return old  # without candidates, no columns are needed
    check_columns(table, old.filters.table)
    kept, alive = _without(old, *old.positions(table.ids))
    new = Segment(table, vectors, np.full(len(table), old.stamp + 1))
    return dataclasses.replace(old, alive=alive, recent=kept.join(new), stamp=old.stamp + 1)


def removed(old: Snapshot, ids: Sequence | Ids) -> Snapshot:
    """Removes candidates; see `LiveIndex.remove`.

    Raises:
      ValueError: an id is not in the index.
    """
    positions, recent = old.positions(ids)
    if (missing := (positions < 0) & (recent < 0)).any():
        raise ValueError(f"no candidate {as_ids(ids, 'ids')[missing][0].item()!r} to remove")
    kept, alive = _without(old, positions, recent)
    return dataclasses.replace(old, alive=alive, recent=kept, stamp=old.stamp + 1)


def caught_up(built: Snapshot, now: Snapshot) -> Snapshot:
    """Adds to a newly built snapshot the changes that were made while it was built.

    A candidate of the new base is alive if it still is in the index and was not replaced since.
    """
    since = now.recent.take(now.recent.stamps > built.stamp)
    ids = built.filters.table.ids
    alive = np.isin(ids, now.alive_ids()) & ~np.isin(ids, since.table.ids)
    return dataclasses.replace(built, alive=alive, recent=since, stamp=now.stamp)


def as_table(ids: Sequence | Ids, attributes: Mapping[str, Any] | None, like: Table | None = None) -> Table:
    """Makes a table of candidates and their attributes; a column gets the type of that column in the table `like`.

    Integers become floats if no digit is lost, and lists become joined text. A column of missing values fits any type.

    Raises:
      ValueError: an id occurs twice, or attributes are not columns by name, of one type and with a value for each id.
    """
    if attributes is not None and not isinstance(attributes, Mapping):
        raise ValueError(f"attributes must be a mapping of columns by name, got {attributes!r}")
    columns = {}
    for name, values in (attributes or {}).items():
        if not isinstance(name, str) or not name:
            raise ValueError(f"attributes must be named by text, got {name!r}")
        columns[name] = as_column(values, f"attribute {name!r}")
        if like is not None and name in like.columns:
            columns[name] = converted(columns[name], like.columns[name], f"attribute {name!r}")
    return Table(ids, columns)


def check_columns(new: Table, old: Table) -> None:
    """Raises ValueError unless both tables have the same columns, and the same types of ids and values."""
    given, expected = (
        {"the id": type_of(table.ids)} | {repr(name): type_of(column) for name, column in table.columns.items()}
        for table in (new, old)
    )
    for name in [*expected, *(given.keys() - expected.keys())] if len(new) else []:
        new_type, old_type = given.get(name, "nothing"), expected.get(name, "nothing")
        if new_type != old_type:
            raise ValueError(f"attributes must match: {name} is {old_type} in the index, got {new_type}")


def check_vectors(ids: Ids, embeddings: ArrayLike, dimension: int | None = None) -> Float32[np.ndarray, "m d"]:
    """Converts the vectors of candidates to float32 [m, d].

    Raises:
      ValueError: the number of vectors is not that of the ids, or a vector is not finite, or zero, which is nearly
        always a mistake: such a candidate is never recommended.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        vectors = as_matrix(embeddings, "embeddings")
        if vectors.ndim != 2 or len(vectors) != len(ids) or dimension not in (None, vectors.shape[1]):
            columns = "d" if dimension is None else dimension
            raise ValueError(f"embeddings must be of shape [{len(ids)}, {columns}], got {vectors.shape}")
        squared = np.vecdot(vectors, vectors)
    for problem, is_bad in (("not finite", ~np.isfinite(squared)), ("zero", ~vectors.any(axis=1))):
        if is_bad.any():
            bad = ids[is_bad]
            raise ValueError(
                f"the vector of candidate {bad[0].item()!r} is {problem} ({len(bad)} such candidates); "
                "did the training diverge, or does it lack features?"
            )
    return as_vectors(vectors, "embeddings")


def _without(
    snapshot: Snapshot, positions: Int32[np.ndarray, " m"], recent: Int32[np.ndarray, " m"]
) -> tuple[Segment, Bool[np.ndarray, " n"]]:
    """Returns the recent segment and the mask of the base without candidates, given by their positions in each."""
    alive, kept = snapshot.alive.copy(), np.ones(len(snapshot.recent.table), bool)
    alive[positions[positions >= 0]] = False
    kept[recent[recent >= 0]] = False
    return snapshot.recent.take(kept), alive
