"""Types of a batch of B examples: the distinct rows, and for each example the indices of its two rows among them.

A batch of implicit feedback repeats queries and candidates: among 8192 examples of MovieLens-100K about 900 queries and
1200 candidates are distinct. Towers and scores are computed once per distinct row, not once per example.

Where an example is a window of a history, the batch holds the windows as its queries, without folding, and each target
of a window is an example of its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

NO_ROW = -1  # an absent row or index


class Distinct(NamedTuple):
    """Distinct rows of a batch, and where the row of each example stands among them: `rows[indices]` are all B rows.

    Attributes:
      rows: rows of a vocabulary, each once, padded at the end with row 0, to which no index refers [U].
      indices: index in `rows` of each example's row [B]. For windows of L interactions: index of each example among the
        U * L interactions of all windows, one window after the other.
    """

    rows: Int[np.ndarray, "*steps U"]
    indices: Int[np.ndarray, "*steps B"]


class Drawn(NamedTuple):
    """Negatives beside the positives of a batch, as indices into its distinct candidates; -1 for no negative.

    Attributes:
      shared: negatives that all examples share [M].
      own: negatives of single examples, drawn from the candidates that their queries disliked [B, H].
      num_disliked: number of candidates that the query of each example disliked [B].
    """

    shared: Int[np.ndarray, "*steps M"]
    own: Int[np.ndarray, "*steps B H"]
    num_disliked: Int[np.ndarray, "*steps B"]


class Batch(NamedTuple):
    """A batch of B examples, or several batches with a leading axis of steps.

    Attributes:
      queries: the U distinct query rows.
      candidates: the V distinct candidate rows; the indices are those of the positives.
      weights: weight of each example [B]; 0 for padding of the last batch.
      real: False for padding of the last batch [B].
      negatives: negatives beside the positives of the batch.
      probabilities: expected share of each distinct candidate in the columns of the batch, for the logQ correction [V].
      context: columns of the examples, or of the windows, that query towers may read, by name [B, ...] each.
      labels: labels that heads predict for each example, by name; NaN for an unknown label [B].
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
    """Sizes to which a batch is padded, so that all batches have one shape and one compiled program.

    Attributes:
      queries: number of distinct queries, or of windows.
      candidates: number of distinct candidates.
      examples: number of examples; of targets where the queries are windows.
    """

    queries: int = 0
    candidates: int = 0
    examples: int = 0


NO_CAPACITY = Capacity()
