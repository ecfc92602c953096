"""Interactions and tables: the two columnar forms of raw data."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64, Shaped

from retrieval.data.column_values import as_column
from retrieval.data.columns import as_texts, to_list, type_of
from retrieval.data.ids import Ids, as_ids, check_ids, distinct, find, narrow
from retrieval.data.out_of_core.mapped import WINDOW
from retrieval.data.ratings import as_ratings
from retrieval.data.vocabulary import Vocabulary

SHOWN_COLUMNS = 8  # of a table, in its repr


@dataclasses.dataclass(frozen=True)
class Interactions:
    """Implicit feedback in columns, one row per event, in file order. Sequences become arrays.

    Attributes:
      query_ids: raw id of the query (the user) of each event, int64 or str [n].
      candidate_ids: raw id of the candidate (the movie) of each event, int64 or str [n].
      ratings: explicit rating of each event, float32 [n], or None.
      timestamps: time of each event in whole Unix seconds, int64 [n], or None. Fractions of a second, datetimes, dates
        and ISO 8601 text are read, see `times.as_times`.
      nanoseconds: the rest of each time, int32 [n]; None if all are 0. Read from `timestamps`, not to be given.

    Raises:
      DataError: an id, a rating or a time is missing or cannot be used, or columns differ in length; the message names
        the row, from 0.
    """

    query_ids: Ids | Iterable
    candidate_ids: Ids | Iterable
    ratings: Shaped[np.ndarray, " n"] | Iterable | None = None
    timestamps: Shaped[np.ndarray, " n"] | Iterable | None = None
    nanoseconds: Int32[np.ndarray, " n"] | None = None

    def __repr__(self) -> str:
        queries, candidates = ("text" if dtype.kind == "U" else "integers" for dtype in self.id_dtypes)
        others = "".join(f", {name}" for name in ("ratings", "timestamps") if getattr(self, name) is not None)
        return f"Interactions({len(self):,} events: query ids {queries}, candidate ids {candidates}{others})"

    def __post_init__(self):
        columns = {name: as_ids(getattr(self, name), name) for name in ("query_ids", "candidate_ids")}
        for name, ids in columns.items():
            check_ids(ids, name)
        if self.ratings is not None:
            columns["ratings"] = as_ratings(self.ratings, "ratings")
        if self.timestamps is not None:
            from retrieval.data.times import as_times  # here, as answers of a bundle need no pyarrow

            times = as_times(self.timestamps, "timestamps")
            if self.nanoseconds is not None and times.nanoseconds is None:  # as `dataclasses.replace` passes them
                times = times._replace(nanoseconds=np.asarray(self.nanoseconds, np.int32))
            columns |= {"timestamps": times.seconds, "nanoseconds": times.nanoseconds}
        self._set(columns)

    @classmethod
    def checked_before(cls, **columns: np.ndarray | None) -> Interactions:
        """Returns interactions of columns that were checked, as those of other interactions are."""
        interactions = cls.__new__(cls)
        interactions._set(columns)
        return interactions

    def _set(self, columns: Mapping[str, np.ndarray | None]) -> None:
        """Sets the columns, once: instances are frozen."""
        nanoseconds = columns.get("nanoseconds")
        if nanoseconds is not None and not nanoseconds.any():
            columns = {**columns, "nanoseconds": None}
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, columns.get(field.name))
        for name, column in self.columns().items():
            if column.shape != self.query_ids.shape:
                raise ValueError(f"{name} has shape {column.shape}, but query_ids has {self.query_ids.shape}")

    def __len__(self) -> int:
        return len(self.query_ids)

    def columns(self) -> dict[str, np.ndarray]:
        """Returns the columns that are not None, by field name."""
        return {f.name: c for f in dataclasses.fields(self) if (c := getattr(self, f.name)) is not None}

    def take(self, rows: Int64[np.ndarray, "m"] | Bool[np.ndarray, "n"] | slice) -> Interactions:
        """Returns the events at `rows` (indices, a mask or a slice), in that order."""
        return Interactions.checked_before(**{name: column[rows] for name, column in self.columns().items()})

    def order_by_time(self, groups: Int[np.ndarray, "n"] | None = None) -> Int64[np.ndarray, "n"]:
        """Returns the indices of the events in the order of time, within each group if there are groups.

        This is the only order of time: to the nanosecond, then that of the file, as without timestamps.

        Args:
          groups: events of a lower group come first.
        """
        keys = [key for key in (self.nanoseconds, self.timestamps, groups) if key is not None]
        return np.lexsort(keys) if keys else np.arange(len(self))

    def time_of(self, event: int) -> tuple[int, int]:
        """Returns the time of an event, in whole Unix seconds and the nanoseconds within them."""
        nanoseconds = 0 if self.nanoseconds is None else int(self.nanoseconds[event])
        return int(self.timestamps[event]), nanoseconds

    def with_unknown_ratings(self, is_unknown: Bool[np.ndarray, "n"]) -> Interactions:
        """Returns the events with the ratings of some unknown: NaN, neither a dislike nor a label of a task."""
        ratings = np.where(is_unknown, np.float32(np.nan), self.ratings)
        return Interactions.checked_before(**{**self.columns(), "ratings": ratings})

    def pieces(self) -> Iterator[Interactions]:
        """Yields the events in order, 16 million at a time; one empty piece if there are no events."""
        for start in range(0, max(len(self), 1), WINDOW):
            yield self.take(slice(start, start + WINDOW))

    @functools.cached_property
    def distinct_ids(self) -> tuple[Ids, Ids]:
        """The distinct query ids and candidate ids, each sorted."""
        return distinct(self.query_ids), distinct(self.candidate_ids)

    @property
    def id_dtypes(self) -> tuple[np.dtype, np.dtype]:
        """The types of the query ids and of the candidate ids."""
        return self.query_ids.dtype, self.candidate_ids.dtype

    def rows_in(
        self, queries: Vocabulary, candidates: Vocabulary
    ) -> tuple[Int32[np.ndarray, "n"], Int32[np.ndarray, "n"]]:
        """Returns the row of each event's query id and candidate id in the vocabularies."""
        return queries.rows(self.query_ids), candidates.rows(self.candidate_ids)

    def with_text_ids(self, queries: bool, candidates: bool) -> Interactions:
        """Converts query ids, candidate ids or both to text."""
        columns = self.columns()
        for name, as_text in (("query_ids", queries), ("candidate_ids", candidates)):
            columns[name] = columns[name].astype(np.str_) if as_text else columns[name]
        return Interactions.checked_before(**columns)

    def digests(self) -> dict[str, str]:
        """Computes the SHA-256 of each column, hexadecimal, by field name."""
        return {name: column_digest(column) for name, column in self.columns().items()}

    def fingerprint(self) -> str:
        """Computes the SHA-256 of all columns, hexadecimal; equal data have equal fingerprints."""
        digest = hashlib.sha256()
        for name, column in self.columns().items():
            column = narrow(column)
            update_digest(digest, name, column.dtype, len(column), [column])
        return digest.hexdigest()


def update_digest(digest, name: str, dtype: np.dtype, length: int, pieces: Iterable[Shaped[np.ndarray, "..."]]) -> None:
    """Adds the pieces of a column to a digest of `hashlib`."""
    digest.update(f"{name}:{dtype.str}:{length};".encode())
    for piece in pieces:
        digest.update(np.ascontiguousarray(piece).tobytes())


def column_digest(column: Shaped[np.ndarray, "n ..."]) -> str:
    """Returns the SHA-256 of the type, the length and the values of a column, hexadecimal; O(size) time."""
    digest, column = hashlib.sha256(), narrow(column)
    if column.dtype.kind == "O":  # lists of values: their addresses in memory say nothing
        text = json.dumps(to_list(column))
        column = np.frombuffer(text.encode(), np.uint8)
    update_digest(digest, str(column.shape[1:]), column.dtype, len(column), [column])
    return digest.hexdigest()


def concatenate(first: Interactions, second: Interactions) -> Interactions:
    """Returns the events of `first`, then those of `second`; a column that one of them lacks is dropped."""
    columns, more = first.columns(), second.columns()
    if "timestamps" in columns and "timestamps" in more and {"nanoseconds"} & {*columns, *more}:
        for part in (columns, more):  # without nanoseconds all of them are 0
            part.setdefault("nanoseconds", np.zeros(len(part["timestamps"]), np.int32))
    both = {name: np.concatenate([columns[name], more[name]]) for name in columns if name in more}
    return Interactions.checked_before(**both)


def drop_duplicates(interactions: Interactions) -> Interactions:
    """Drops repeats of a (query, candidate) pair; the first event in file order stays."""
    _, query = np.unique(interactions.query_ids, return_inverse=True)
    candidates, candidate = np.unique(interactions.candidate_ids, return_inverse=True)
    # Each pair is one integer; int64, because the product of two int32 counts may overflow.
    _, first = np.unique(query.astype(np.int64) * len(candidates) + candidate, return_index=True)
    return interactions if len(first) == len(interactions) else interactions.take(np.sort(first))


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of entities with unique raw ids, as movies, in file order.

    Attributes:
      ids: raw ids, int64 or str [n], each once.
      columns: attribute columns by name, each [n], or [n, size] for vectors; lists, and columns of pandas, polars and
        pyarrow, become arrays. See `retrieval.data.columns` for their types and missing values. Several values of one
        row (genres) are a list of text, or one text joined by "|", see `retrieval.data.joined_values`.

    Raises:
      ValueError: an id is there twice, a column has another length, or its values have no one type.
    """

    ids: Ids | Iterable
    columns: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __repr__(self) -> str:
        names = list(self.columns)
        shown = ", ".join(f"{name} ({type_of(self.columns[name])})" for name in names[:SHOWN_COLUMNS])
        more = f" and {len(names) - SHOWN_COLUMNS} more" if len(names) > SHOWN_COLUMNS else ""
        return f"Table({len(self):,} ids{': ' if names else ''}{shown}{more})"

    def __post_init__(self):
        is_checked = isinstance(self.ids, np.ndarray) and self.ids.dtype.kind != "O"  # arrays come from other tables
        object.__setattr__(self, "ids", as_ids(self.ids, "ids"))
        if not is_checked:
            check_ids(self.ids, "ids")
        unique, counts = np.unique(self.ids, return_counts=True)
        if len(unique) < len(self.ids):
            raise ValueError(f"ids must be unique, got {unique[counts > 1][0].item()!r} more than once")
        columns = {name: as_column(values, f"column {name!r}") for name, values in self.columns.items()}
        for name, column in columns.items():
            if column.shape[:1] != self.ids.shape or column.ndim > 2:
                raise ValueError(f"column {name!r} has shape {column.shape}, but ids has {self.ids.shape}")
        object.__setattr__(self, "columns", columns)

    def __len__(self) -> int:
        return len(self.ids)

    def positions(self, ids: Sequence | Ids) -> Int32[np.ndarray, "m"]:
        """Returns the position of each id in the table, -1 for an id that the table lacks."""
        order, ordered = self._order
        found = find(ordered, ids)
        return np.where(found < 0, np.int32(-1), order[found]) if len(order) else found

    @property
    def titles(self) -> Shaped[np.ndarray, "n"]:
        """The column "title" as text, with the id in place of a missing title.

        >>> Table([7, 8], {"title": np.array(["Brazil", ""])}).titles.tolist()
        ['Brazil', '8']
        """
        ids = self.ids.astype(str)
        known = as_texts(self.columns.get("title", ids))
        return np.where(known == "", ids, known)

    def digests(self) -> dict[str, str]:
        """Computes the SHA-256 of the ids, under "", and of each column, hexadecimal, by name."""
        return {"": column_digest(self.ids)} | {name: column_digest(column) for name, column in self.columns.items()}

    @functools.cached_property
    def _order(self) -> tuple[Int32[np.ndarray, "n"], Ids]:
        order = np.argsort(self.ids, kind="stable").astype(np.int32)
        return order, self.ids[order]
