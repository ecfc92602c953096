"""Raw id <-> row."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from retrieval.data.ids import Ids, as_ids, distinct, find

UNKNOWN_ROW = 0


class Vocabulary:
    """The rows of an embedding table: row 0 for every unknown id, then one row per known id.

    Known ids are sorted, so that the same set of ids gives the same rows whatever their order.

    >>> vocabulary = Vocabulary(["b", "a", "b"])
    >>> vocabulary.rows(["a", "b", "never seen"])
    array([1, 2, 0], dtype=int32)
    >>> vocabulary.num_rows
    3

    Behind the rows of the table come those of `others`, ids that training has not seen and whose features are known:

    >>> with_others = Vocabulary(["b", "a"], others=["c", "b"])
    >>> with_others.rows(["a", "b", "c", "never seen"])
    array([1, 2, 3, 0], dtype=int32)
    >>> with_others.num_rows, with_others.num_entities
    (3, 4)
    """

    def __init__(self, ids: Sequence | np.ndarray, others: Sequence | np.ndarray | None = None):
        """Builds the vocabulary.

        Args:
          ids: those of the training part, int64 or str [n], repeats allowed.
          others: further ids with features; those of the training part among them count as such.

        Raises:
          ValueError: `others` are strings and `ids` integers, or the reverse.
        """
        self.ids: Ids = distinct(as_ids(ids, "ids"))
        others = self.ids[:0] if others is None else distinct(as_ids(others, "others"))
        self.others: Ids = others[find(self.ids, others) < 0]

    @property
    def num_rows(self) -> int:
        """The number of rows of an embedding table, the unknown one included."""
        return len(self.ids) + 1

    @property
    def num_entities(self) -> int:
        """The number of rows of a feature table: those of the embedding table, and those of the others."""
        return self.num_rows + len(self.others)

    @property
    def entity_ids(self) -> Ids:
        """The raw id of each row of a feature table from row 1 on."""
        return np.concatenate([self.ids, self.others])

    def rows(self, ids: Sequence | np.ndarray) -> Int32[np.ndarray, "n"]:
        """Returns the row of each raw id, 0 where it is unknown; O(n log size) time.

        Raises:
          ValueError: `ids` are strings and the vocabulary holds integers, or the reverse.
        """
        rows = (find(self.ids, ids) + 1).astype(np.int32)
        if not len(self.others):
            return rows
        places = find(self.others, ids)
        return np.where(places < 0, rows, (self.num_rows + places).astype(np.int32))

    def ids_of(self, rows: Sequence[int] | np.ndarray) -> Ids:
        """Returns the raw id of each known row.

        Raises:
          ValueError: a row is the unknown row or outside the vocabulary.
        """
        rows = np.asarray(rows)
        if rows.size and not (1 <= rows.min() and rows.max() < self.num_rows):
            raise ValueError(f"rows must be in [1, {self.num_rows}), got {rows.min()} to {rows.max()}")
        return self.ids[rows - 1]

    def parse(self, text: str) -> int | str:
        """Returns `text`, as typed in a shell, as a raw id of this vocabulary's type.

        Raises:
          ValueError: the vocabulary holds integers and `text` is not one.
        """
        if self.ids.dtype.kind == "U":
            return text
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"ids of this vocabulary are integers, got {text!r}") from None

    def to_json(self) -> str:
        """Returns the vocabulary as JSON text."""
        kind = "str" if self.ids.dtype.kind == "U" else "int"
        return json.dumps({"type": kind, "ids": self.ids.tolist(), "others": self.others.tolist()})

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """Reads what `to_json` wrote.

        Raises:
          ValueError: the text is not a vocabulary, its ids are not of the type it names, or not sorted and unique.
        """
        try:
            content = json.loads(text)
            dtype = {"str": np.str_, "int": np.int64}[content["type"]]
            listed, others = content["ids"], content["others"]
            if not {of.__name__ for of in {*map(type, listed), *map(type, others)}} <= {content["type"]}:
                raise ValueError(f"an id is not of type {content['type']}")
            ids, others = np.asarray(listed, dtype), np.asarray(others, dtype)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"not a vocabulary: {error!r} in {text[:60]!r}") from None
        vocabulary = cls(ids, others)
        if not (np.array_equal(vocabulary.ids, ids) and np.array_equal(vocabulary.others, others)):
            raise ValueError("not a vocabulary: its ids are not sorted and unique")
        return vocabulary
