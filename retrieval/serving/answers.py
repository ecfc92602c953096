"""Result types of `Recommender`: ids, titles and scores, best first."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Shaped

from retrieval.common.lists import PADDING_ROW
from retrieval.data.columns import blank
from retrieval.index import Answers


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


def lookup(values: Shaped[np.ndarray, "N ..."], positions: Int[np.ndarray, "Q k"]) -> Shaped[np.ndarray, "Q k ..."]:
    """Returns the value at each position, zero, "" or the empty list at padding."""
    is_padding = (positions == PADDING_ROW).reshape(*positions.shape, *[1] * (values.ndim - 1))
    return np.where(is_padding, blank(values.dtype), values[positions])
