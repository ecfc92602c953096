"""What is answered: candidates or queries by raw id, the best first, of one or of many."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Shaped

from retrieval.common.lists import PADDING_ROW


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """The k best candidates of each query, best first; of a single query, without the dimension Q.

    Attributes:
      positions: positions in the corpus [Q, k]; -1 where fewer than k candidates are left.
      ids: raw candidate ids [Q, k]; 0 or "" there.
      titles: their titles [Q, k]; "" there.
      scores: dot products of the embeddings, or what else they are ranked by [Q, k]; -inf there.
      known: whether train has the query [Q]. One that it has not is answered by its features, where they are given or
        the table of queries has them, or else as an unknown query; and by the history that is given.
    """

    positions: Int32[np.ndarray, "*Q k"]
    ids: Shaped[np.ndarray, "*Q k"]
    titles: Shaped[np.ndarray, "*Q k"]
    scores: Float32[np.ndarray, "*Q k"]
    known: Bool[np.ndarray, "*Q"]


class Neighbours(NamedTuple):
    """The k queries most similar to each query, best first; of a single query, without the dimension Q.

    Attributes:
      ids: raw query ids [Q, k]; 0 or "" where fewer than k are left.
      scores: cosines [Q, k]; -inf there.
    """

    ids: Shaped[np.ndarray, "*Q k"]
    scores: Float32[np.ndarray, "*Q k"]


def lookup(values: Shaped[np.ndarray, "N"], positions: Int[np.ndarray, "Q k"]) -> Shaped[np.ndarray, "Q k"]:
    """Returns the value at each position, zero or "" at padding."""
    return np.where(positions == PADDING_ROW, np.zeros((), values.dtype), values[positions])
