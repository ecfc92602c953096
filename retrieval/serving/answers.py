"""Result types of `Recommender`: ids, titles and scores, best first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Shaped

from retrieval.common.lists import PADDING_ROW
from retrieval.data.columns import blank
from retrieval.index import Answers

SHOWN_ROWS = 4  # entries of an answer that its repr shows


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """The k best candidates of each query, best first; of a single query, without the dimension Q.

    A further field is one more line here and one in `from_search`.

    Attributes:
      positions: positions in the corpus [Q, k]; -1 where fewer than k candidates are left.
      ids: raw candidate ids [Q, k]; 0 or "" there.
      titles: titles of the candidates [Q, k]; "" there.
      scores: dot products of the embeddings, or cosines of `similar` [Q, k]; -inf there.
      known: whether the training part has the query [Q]. An unseen query is answered by its features, if they are given
        or in the table of queries, and by its history, if it is given; else as an unknown query.
    """

    positions: Int32[np.ndarray, "*Q k"]
    ids: Shaped[np.ndarray, "*Q k"]
    titles: Shaped[np.ndarray, "*Q k"]
    scores: Float32[np.ndarray, "*Q k"]
    known: Bool[np.ndarray, "*Q"]

    def rows(self) -> list[dict[str, Any]]:
        """Returns an entry for each candidate that was found: number of its query, rank from 1, id, title and score."""
        return _rows({"id": self.ids, "title": self.titles, "score": self.scores})

    def to_pandas(self) -> Any:
        """Returns `rows` as a DataFrame; needs pandas."""
        return _frame(self.rows(), ("query", "rank", "id", "title", "score"))

    def __repr__(self) -> str:
        return _shown("Recommendations", self.rows(), self.known)

    @classmethod
    def from_search(
        cls,
        found: Answers,
        positions: Int32[np.ndarray, "Q k"],
        known: Bool[np.ndarray, "Q"],
        shaped: Callable[[np.ndarray], np.ndarray],
    ) -> Recommendations:
        """Makes the result of a search: over the corpus, or over an index by raw id.

        Args:
          found: ids, scores and, by `found.attribute(name)`, attributes of the candidates that were found.
          positions: their positions in the corpus, -1 outside of it.
          known: whether the training part has each query.
          shaped: drops the first dimension for a single query, see `Request.shaped`.
        """
        fields: dict[str, Any] = {
            "positions": positions,
            "ids": found.ids,
            "titles": found.titles,
            "scores": found.scores,
            "known": known,
        }
        return cls(**{name: shaped(values) for name, values in fields.items()})


class Neighbours(NamedTuple):
    """The k queries most similar to each query, best first; of a single query, without the dimension Q.

    Attributes:
      ids: raw query ids [Q, k]; 0 or "" where fewer than k are left, and for a query of which nothing is known.
      scores: cosines [Q, k]; -inf there.
      known: whether the training part has the query [Q].
    """

    ids: Shaped[np.ndarray, "*Q k"]
    scores: Float32[np.ndarray, "*Q k"]
    known: Bool[np.ndarray, "*Q"]

    def rows(self) -> list[dict[str, Any]]:
        """Returns an entry for each neighbour that was found: number of its query, rank from 1, id and score."""
        return _rows({"id": self.ids, "score": self.scores})

    def to_pandas(self) -> Any:
        """Returns `rows` as a DataFrame; needs pandas."""
        return _frame(self.rows(), ("query", "rank", "id", "score"))

    def __repr__(self) -> str:
        return _shown("Neighbours", self.rows(), self.known)


def _rows(columns: Mapping[str, Shaped[np.ndarray, "*Q k"]]) -> list[dict[str, Any]]:
    """Returns the columns of an answer as a row for each entry that is no padding, whose score is -inf."""
    flat = {name: np.atleast_2d(column) for name, column in columns.items()}
    queries, places = np.nonzero(flat["score"] > -np.inf)
    values = {name: column[queries, places].tolist() for name, column in flat.items()}
    numbers = zip(queries.tolist(), (places + 1).tolist(), strict=True)
    return [
        {"query": query, "rank": rank} | dict(zip(values, row, strict=True))
        for (query, rank), row in zip(numbers, zip(*values.values(), strict=True), strict=True)
    ]


def _frame(rows: list[dict[str, Any]], columns: Sequence[str]) -> Any:
    try:
        import pandas
    except ImportError:
        raise ImportError("to_pandas needs pandas: pip install pandas; or take rows()") from None
    return pandas.DataFrame(rows, columns=list(columns))


def _shown(name: str, rows: list[dict[str, Any]], known: Bool[np.ndarray, "*Q"]) -> str:
    """Returns the first entries of an answer, a line for each."""
    number = np.atleast_1d(known).size
    lines = [
        f"  {row['query']}: {row['score']:.3f}  {row['id']}" + (f"  {row['title']}" if "title" in row else "")
        for row in rows[:SHOWN_ROWS]
    ]
    more = f", of which the first {SHOWN_ROWS}" if len(rows) > SHOWN_ROWS else ""
    return "\n".join([f"{name} for {number:,} queries, {len(rows):,} entries{more}", *lines])


def lookup(values: Shaped[np.ndarray, "N ..."], positions: Int[np.ndarray, "Q k"]) -> Shaped[np.ndarray, "Q k ..."]:
    """Returns the value at each position, zero, "" or the empty list at padding."""
    is_padding = (positions == PADDING_ROW).reshape(*positions.shape, *[1] * (values.ndim - 1))
    return np.where(is_padding, blank(values.dtype), values[positions])
