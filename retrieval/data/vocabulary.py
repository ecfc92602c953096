"""The mapping between raw ids and rows."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from retrieval.data.ids import Ids, as_ids, distinct, find, parse_integer

UNKNOWN_ROW = 0


class Vocabulary:
    """Maps raw ids to rows of an embedding table: row 0 for every unknown id, then one row for each known id.

    Known ids are sorted, so that a set of ids gives the same rows in any order.

    >>> vocabulary = Vocabulary(["b", "a", "b"])
    >>> vocabulary.rows(["a", "b", "never seen"])
    array([1, 2, 0], dtype=int32)
    >>> vocabulary.num_rows
    3

    Rows beyond the table belong to `others`, cold-start ids, which are not in train but have features:

    >>> with_others = Vocabulary(["b", "a"], others=["c", "b"])
    >>> with_others.rows(["a", "b", "c", "never seen"])
    array([1, 2, 3, 0], dtype=int32)
    >>> with_others.num_rows, with_others.num_entities
    (3, 4)
    """

    def __init__(self, ids: Sequence | np.ndarray, others: Sequence | np.ndarray | None = None):
        """Builds the vocabulary.

        Args:
          ids: ids in the training part, int64 or str [n], repeats allowed.
          others: more ids with features; ids of the training part among them are ignored.

        Raises:
          ValueError: `others` are strings and `ids` integers, or the reverse.
        """
        self.ids: Ids = distinct(as_ids(ids, "ids"))
        others = self.ids[:0] if others is None else distinct(as_ids(others, "others"))
        # An id with a row in the table needs no second one.
        self.others: Ids = others[find(self.ids, others) < 0]

    @property
    def num_rows(self) -> int:
        """Number of rows of an embedding table, the unknown row 0 included."""
        return len(self.ids) + 1

    @property
    def num_entities(self) -> int:
        """Number of rows of a feature table: the rows of the embedding table and the other ids."""
        return self.num_rows + len(self.others)

    @property
    def entity_ids(self) -> Ids:
        """Raw id of each row of a feature table from row 1 on."""
        return np.concatenate([self.ids, self.others])

    def rows(self, ids: Sequence | np.ndarray) -> Int32[np.ndarray, "n"]:
        """Returns the row of each raw id, 0 for unknown ids; O(n log size) time.

        Raises:
          ValueError: `ids` are strings and the vocabulary holds integers, or the reverse.
        """
        rows = (find(self.ids, ids) + 1).astype(np.int32)
        if not len(self.others):
            return rows
        indices = find(self.others, ids)
        return np.where(indices < 0, rows, (self.num_rows + indices).astype(np.int32))

    def ids_of(self, rows: Sequence[int] | np.ndarray) -> Ids:
        """Returns the raw id of each known row.

        Raises:
          ValueError: a row is the unknown row 0, or outside the vocabulary.
        """
        rows = np.asarray(rows)
        if rows.size and not (1 <= rows.min() and rows.max() < self.num_rows):
            raise ValueError(f"rows must be in [1, {self.num_rows}), got {rows.min()} to {rows.max()}")
        return self.ids[rows - 1]

    def parse(self, text: str) -> int | str:
        """Parses text, as typed in a shell, as a raw id of the vocabulary's type.

        Raises:
          ValueError: the vocabulary holds integers and `text` is not one.
        """
        if self.ids.dtype.kind == "U":
            return text
        try:
            return parse_integer(text)
        except ValueError:
            raise ValueError(f"ids of this vocabulary are integers, got {text!r}") from None

    def to_json(self) -> str:
        """Returns the vocabulary as JSON text."""
        kind = "str" if self.ids.dtype.kind == "U" else "int"
        return json.dumps({"type": kind, "ids": self.ids.tolist(), "others": self.others.tolist()})

    @classmethod
    def from_json(cls, text: str) -> Vocabulary:
        """Reads a vocabulary written by `to_json`.

        Raises:
          ValueError: the text does not describe a vocabulary, or its ids have another type than it names, are not
            sorted or not unique.
        """
        try:
            content = json.loads(text)
            dtype = {"str": np.str_, "int": np.int64}[content["type"]]
            listed, others = content["ids"], content["others"]
            if not {cls.__name__ for cls in {*map(type, listed), *map(type, others)}} <= {content["type"]}:
                raise ValueError(f"an id is not of type {content['type']}")
            ids, others = np.asarray(listed, dtype), np.asarray(others, dtype)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"not a vocabulary: {error!r} in {text[:60]!r}") from None
        vocabulary = cls(ids, others)
        # Rows follow from the order of the ids: ids in another order would get the embeddings of others.
        if not (np.array_equal(vocabulary.ids, ids) and np.array_equal(vocabulary.others, others)):
            raise ValueError("not a vocabulary: its ids are not sorted and unique")
        return vocabulary
