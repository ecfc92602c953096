"""The types of a batch: distinct rows, and for every example the indices of its two rows among them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

NO_ROW = -1  # stands where there is no row


class Distinct(NamedTuple):
    """The distinct rows of a batch; padded at the end with row 0, which no place refers to.

    Attributes:
      rows: rows of a vocabulary, each once [U].
      indices: where in `rows` the row of each example stands [B]. Of windows of L interactions: which of the U * L
        interactions, one window after the other, the example is.
    """

    rows: Int[np.ndarray, "*steps U"]
    indices: Int[np.ndarray, "*steps B"]


class Drawn(NamedTuple):
    """Negatives beside the positives of a batch, as indices among its distinct candidates; -1 where there is none.

    Attributes:
      shared: negatives of all examples [M].
      own: negatives of single examples, from what their queries disliked [B, H].
      num_disliked: how many candidates the query of each example disliked [B].
    """

    shared: Int[np.ndarray, "*steps M"]
    own: Int[np.ndarray, "*steps B H"]
    num_disliked: Int[np.ndarray, "*steps B"]


class Batch(NamedTuple):
    """A batch of B examples, or with a leading axis a number of batches.

    Attributes:
      queries: distinct query rows, U of them.
      candidates: distinct candidate rows, V of them; indices are those of the positives.
      weights: weight of each example [B]; 0 for what only fills up the last batch.
      real: False for what only fills up the last batch [B].
      negatives: the candidates that are there for no example's positive.
      probabilities: the share of the batch's columns in which each distinct candidate is to be expected [V].
      context: columns of the examples, or of the windows, that query towers may read, by name [B, ...] each.
      labels: what heads are to predict of each example, by name; NaN where it is not known [B].
    """

    queries: Distinct
    candidates: Distinct
    weights: Float[np.ndarray, "*steps B"]
    real: Bool[np.ndarray, "*steps B"]
    negatives: Drawn
    probabilities: Float[np.ndarray, "*steps V"]
    context: dict[str, Shaped[np.ndarray, "..."]]
    labels: dict[str, Float[np.ndarray, "*steps B"]]


class Capacity(NamedTuple):
    """How much a batch has room for.

    Attributes:
      queries: distinct queries, or windows.
      candidates: distinct candidates.
      examples: examples; targets where the queries are windows.
    """

    queries: int = 0
    candidates: int = 0
    examples: int = 0


NO_CAPACITY = Capacity()
