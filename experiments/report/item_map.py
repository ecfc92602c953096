"""Map of the items: the most popular ones in the plane, near each other where their embeddings are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from retrieval.data.columns import distinct_values, has_several
from retrieval.data.interactions import Table

from . import tsne

MOST_POINTS = 800
NUM_COLOURS = 6
QUARTERS = ["top 25 %", "to 50 %", "to 75 %", "rest"]


@dataclasses.dataclass(frozen=True)
class Grouping:
    """Items in a few groups.

    Attributes:
      column: the groups are values of it.
      names: of the groups, the most common or most popular first.
      groups: index into `names` of each item [n].
      is_ordered: whether the groups have an order; else the last is "other".
    """

    column: str
    names: Sequence[str]
    groups: Int[np.ndarray, "n"]
    is_ordered: bool


@dataclasses.dataclass(frozen=True)
class ItemMap:
    """Item embeddings in the plane.

    Attributes:
      points: coordinates [n, 2].
      groupings: the ways to colour them.
      titles: of the items [n].
    """

    points: Float[np.ndarray, "n 2"]
    groupings: Sequence[Grouping]
    titles: Shaped[np.ndarray, "n"]


def lay_out(embeddings: Float[np.ndarray, "N D"], counts: Float[np.ndarray, "N"], corpus: Table) -> ItemMap:
    """Lays out the directions of the embeddings of the most popular items by t-SNE."""
    kept = np.argsort(-counts, kind="stable")[:MOST_POINTS]
    vectors = embeddings[kept]
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return ItemMap(tsne.embed(vectors), groupings(corpus, kept), corpus.titles[kept])


def groupings(corpus: Table, kept: Int[np.ndarray, "n"]) -> list[Grouping]:
    """Groups items by the first column with several values in a row, where one exists, and by popularity.

    An item belongs to the rarest of its values that are among the most common ones: this value tells the most.

    Args:
      corpus: the items.
      kept: positions, most popular first [n].
    """
    quarters = np.arange(len(kept)) * len(QUARTERS) // max(len(kept), 1)
    by_popularity = Grouping("popularity", QUARTERS, quarters, is_ordered=True)
    for name, column in corpus.columns.items():
        if name != "title" and has_several(column[kept]):
            return [Grouping(name, *_by_value(column[kept]), is_ordered=False), by_popularity]
    return [by_popularity]


def _by_value(column: Shaped[np.ndarray, "n"]) -> tuple[list[str], Int[np.ndarray, "n"]]:
    rows, row_of = distinct_values(column)
    item_values = [set(rows[row]) - {""} for row in row_of.tolist()]
    found = [value for values in item_values for value in sorted(values)]
    distinct, frequencies = np.unique(np.array(found, dtype=np.str_), return_counts=True)
    common = distinct[np.argsort(-frequencies, kind="stable")[:NUM_COLOURS]].tolist()
    indices = [[common.index(value) for value in values if value in common] for values in item_values]
    return [*common, "other"], np.array([max(own, default=len(common)) for own in indices], np.int64)
