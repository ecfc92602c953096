"""Slices of an evaluation: groups of candidates or of queries that are measured apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Shaped

from retrieval.common.lists import Lists
from retrieval.data.columns import distinct_values, is_present, take, values_of
from retrieval.data.interactions import Table

THIRDS = ("head", "middle", "tail")  # each with a third of the interactions in train
NUM_GROUPS = 4  # of numbers: quarters of those that have one
MOST_VALUES = 50  # of a column of text that is sliced by value; one with more is no category, and makes no slices
MOST_NUMBERS = 12  # likewise of numbers; those of a column with more are cut into quarters


class Slice(NamedTuple):
    """A group of candidates or queries.

    Attributes:
      column: what it is grouped by: "popularity", "activity", "vocabulary", or a column of the table.
      value: which group.
      members: which candidates [N] or queries [Q] belong to it.
    """

    column: str
    value: str
    members: Bool[np.ndarray, "n"]


def of_candidates(counts: Int[np.ndarray, "N"], known: Bool[np.ndarray, "N"], corpus: Table) -> list[Slice]:
    """Returns the slices of the corpus.

    - popularity: head, middle and tail. From the most popular on, the head takes the first third of the interactions
      in train, the middle the second, the tail the rest; only known candidates are in them.
    - activity: quarters of the known candidates by their number of interactions in train.
    - vocabulary: known in train, and cold.
    - each column of the corpus but the title and vectors, see `of_column`.

    Args:
      counts: interactions of each candidate in train.
      known: which candidates are known in train.
      corpus: the candidates with their columns.
    """
    columns = {name: values for name, values in corpus.columns.items() if name != "title" and values.ndim == 1}
    return [*_popularity(counts, known), *_activity(counts, known), *_vocabulary(known), *_of_columns(columns)]


def of_queries(
    counts: Int[np.ndarray, "Q"], known: Bool[np.ndarray, "Q"], positions: Int[np.ndarray, "Q"], table: Table | None
) -> list[Slice]:
    """Returns the slices of the queries of an evaluation: activity, vocabulary and their table but its vectors.

    Args:
      counts: interactions of each query in train.
      known: which queries are known in train.
      positions: where each query stands in the table, -1 where it does not.
      table: attributes of queries, or None.
    """
    columns = {}
    if table is not None:
        columns = {name: take(v, positions) for name, v in table.columns.items() if v.ndim == 1 and len(v)}
    return [*_activity(counts, known), *_vocabulary(known), *_of_columns(columns)]


def of_column(name: str, values: Shaped[np.ndarray, "n"]) -> list[Slice]:
    """Returns a slice for each value of a column; a row of several values, a list or joined text, is in each.

    Numbers with more than 12 values are cut into quarters, text with more than 50 makes no slices. A missing value, ""
    or NaN, has its own.

    >>> [(s.value, s.members.tolist()) for s in of_column("genres", np.array(["War|Drama", "Drama"]))]
    [('Drama', [True, True]), ('War', [True, False])]
    """
    if values_of(values).dtype.kind in "if":
        numbers, present = values_of(values), is_present(values)
        if len(distinct := np.unique(numbers[present])) > MOST_NUMBERS:
            groups = list(_quarters(name, numbers, present))
        else:
            groups = [Slice(name, _number(value), present & (numbers == value)) for value in distinct]
        return groups + ([] if present.all() else [Slice(name, "missing", ~present)])
    rows, codes = distinct_values(values)
    split = [row or [""] for row in rows]
    names = sorted({part for parts in split for part in parts})
    if len(names) > MOST_VALUES:
        return []
    holds = np.array([[part in parts for part in names] for parts in split], bool).reshape(len(split), len(names))
    return [Slice(name, value or "missing", holds[codes, i]) for i, value in enumerate(names)]


def restricted(relevant: Lists, slices: list[Slice]) -> tuple[Lists, Int[np.ndarray, "total"]]:
    """Returns the relevant candidates of each query in each slice of the corpus, and where they stand in `relevant`.

    List s * Q + q holds those of query q in slice s, so that metrics of all slices come from one call.
    """
    owners, num_queries = relevant.owners, len(relevant)
    places = [np.flatnonzero(slice_.members[relevant.rows]) for slice_ in slices]
    parts = [s * num_queries + owners[at] for s, at in enumerate(places)]
    owners_of_slices = np.concatenate([np.zeros(0, np.int64), *parts])
    kept = np.concatenate([np.zeros(0, np.int64), *places])
    return Lists.from_pairs(owners_of_slices, relevant.rows[kept], len(slices) * num_queries), kept


def _popularity(counts, known) -> Iterator[Slice]:
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]
    third = np.empty(len(counts), np.int64)
    third[order] = np.minimum(3 * before // max(int(counts.sum()), 1), 2)
    for i, name in enumerate(THIRDS):
        yield Slice("popularity", name, known & (third == i))


def _activity(counts, known) -> Iterator[Slice]:
    yield from _quarters("activity", counts, known)


def _vocabulary(known) -> Iterator[Slice]:
    yield Slice("vocabulary", "known", known)
    yield Slice("vocabulary", "cold", ~known)


def _of_columns(columns) -> Iterator[Slice]:
    for name, values in columns.items():
        yield from of_column(name, values)


def _quarters(name: str, values: Shaped[np.ndarray, "n"], among: Bool[np.ndarray, "n"]) -> Iterator[Slice]:
    """Yields up to four slices of about the same size, equal values in one; named by their least and largest value."""
    if not among.any():
        return
    bounds = np.unique(np.quantile(values[among], np.arange(1, NUM_GROUPS) / NUM_GROUPS, method="lower"))
    groups = np.searchsorted(bounds, values, side="left")
    for group in np.unique(groups[among]):
        members = among & (groups == group)
        least, largest = values[members].min(), values[members].max()
        yield Slice(name, _number(least) if least == largest else f"{_number(least)} to {_number(largest)}", members)


def _number(value: np.number) -> str:
    return str(value) if isinstance(value, np.integer) else f"{value:g}"
