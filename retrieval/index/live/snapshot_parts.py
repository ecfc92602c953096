"""Converts snapshots of a live index to a record and arrays of its files, and back; text is stored as code points."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Shaped

from retrieval.data.columns import as_lists, as_texts, values_of, with_missing
from retrieval.data.interactions import Table
from retrieval.data.joined_values import split_values
from retrieval.index import registry
from retrieval.index.live.changes import check_columns, check_vectors, fresh
from retrieval.index.live.snapshot import Segment, Snapshot


def parts(now: Snapshot) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Converts a snapshot to a record that JSON can hold, and arrays of numbers by name."""
    record, arrays = now.base.parts()
    base = now.filters.table
    arrays = {f"searcher/{name}": array for name, array in arrays.items()}
    arrays |= {"alive": now.alive, "recent": now.recent.vectors}
    for part, table in {"base": base, "recent": now.recent.table}.items():
        columns = {f"{part}/ids": table.ids}
        columns |= {f"{part}/column/{name}": values_of(column) for name, column in table.columns.items()}
        arrays |= {name: _to_numbers(column) for name, column in columns.items()}
        marked = {name: column for name, column in table.columns.items() if column.dtype.names}
        arrays |= {f"{part}/present/{name}": column["present"] for name, column in marked.items()}
    columns = {"": base.ids, **base.columns}
    texts, lists = ([name for name, column in columns.items() if column.dtype.kind == kind] for kind in "UO")
    return {"searcher": record, "texts": texts, "lists": lists}, arrays


def from_parts(record: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Snapshot:
    """Makes the snapshot from the record and arrays of `parts`.

    Raises:
      ValueError, KeyError, TypeError, IndexError: record and arrays do not fit each other.
    """

    def under(prefix):  # the arrays whose names begin with a prefix, by the rest of the name
        return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}

    def table_of(part):
        columns = {"": arrays[f"{part}/ids"], **under(f"{part}/column/")}
        lists = record.get("lists", [])  # missing in files of earlier versions, which had no lists
        columns |= {name: _to_text(columns[name]) for name in [*record["texts"], *lists]}
        columns |= {name: as_lists(map(split_values, columns[name].tolist()), len(columns[name])) for name in lists}
        columns |= {name: _marked(columns[name], marks) for name, marks in under(f"{part}/present/").items()}
        return Table(columns.pop(""), columns)

    base, recent = table_of("base"), table_of("recent")
    snapshot = fresh(registry.from_parts(record["searcher"], under("searcher/")), base, 0)
    check_columns(recent, base)
    vectors = check_vectors(recent.ids, arrays["recent"], snapshot.base.embeddings.shape[1])
    if arrays["alive"].shape != (len(base),) or arrays["alive"].dtype != bool or len(base) != len(snapshot.base):
        raise ValueError(f"{len(base)} ids for {len(snapshot.base)} vectors and {arrays['alive'].shape} marks")
    segment = Segment(recent, vectors, np.zeros(len(recent), np.int64))
    return dataclasses.replace(snapshot, alive=arrays["alive"], recent=segment)


def _marked(values: Shaped[np.ndarray, "..."], present: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, " n"]:
    """Makes a column with missing values from values and marks of presence."""
    if present.dtype != bool or present.shape != values.shape or values.dtype not in (np.int64, bool):
        raise ValueError(f"marks of values must be booleans {values.shape}, got {present.dtype} {present.shape}")
    return with_missing(values, present)


def _to_numbers(column: Shaped[np.ndarray, "n ..."]) -> Shaped[np.ndarray, "n ..."]:
    """Converts text, and lists as joined text, to code points [n, width]; numbers stay as they are."""
    if column.dtype.kind not in "UO":
        return column
    column = as_texts(column)
    return np.ascontiguousarray(column).view(np.uint32).reshape(len(column), column.dtype.itemsize // 4)


def _to_text(points: Shaped[np.ndarray, "n width"]) -> Shaped[np.ndarray, " n"]:
    """Converts code points to text."""
    if points.dtype != np.uint32 or points.ndim != 2 or not points.shape[1]:
        raise ValueError(f"text must be code points [n, width], got {points.dtype} of shape {points.shape}")
    if points.max(initial=0) > 0x10FFFF:
        raise ValueError(f"{points.max()} is the code point of no character")
    return np.ascontiguousarray(points).view(f"U{points.shape[1]}")[:, 0]
