"""Baselines: the bar that every run is shown against."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Shaped


def most_popular(
    counts: Shaped[np.ndarray, "N"], num_queries: int
) -> tuple[Float32[np.ndarray, "Q 1"], Float32[np.ndarray, "N 1"]]:
    """Returns query and candidate embeddings whose dot products are the candidates' counts in train.

    As embeddings of one dimension, the baseline goes through the same evaluation as a model.
    """
    return np.ones((num_queries, 1), np.float32), np.asarray(counts, np.float32)[:, None]
