"""Spaces in which a graph of nearest neighbours finds large inner products.

inner_product  the vectors as they are; a graph over something that is no distance
normalized     their directions: the nearest by angle are scored again, so that norms that differ cost recall
euclidean      one dimension more, sqrt(L**2 - |x|**2) with the largest norm L and 0 for a query: the nearest have the
               largest inner products (Bachrach et al. 2014, "Speeding up the Xbox recommender system")
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

INNER_PRODUCT, NORMALIZED, EUCLIDEAN = "inner_product", "normalized", "euclidean"
SPACES = {INNER_PRODUCT: "ip", NORMALIZED: "ip", EUCLIDEAN: "l2"}  # and hnswlib's name of what the graph measures


def of_candidates(vectors: Float32[np.ndarray, "n d"], space: str) -> Float32[np.ndarray, "n D"]:
    """Returns the vectors as the graph of `space` holds them; D is d + 1 in the Euclidean space. O(n d) time.

    >>> of_candidates(np.float32([[3, 4], [0, 3]]), "euclidean")
    array([[3., 4., 0.],
           [0., 3., 4.]], dtype=float32)
    """
    if space == INNER_PRODUCT:
        return vectors
    squared = np.vecdot(vectors, vectors).astype(np.float64)
    if space == NORMALIZED:
        return (vectors / np.sqrt(np.where(squared > 0, squared, 1))[:, None]).astype(np.float32)
    rest = np.sqrt(squared.max(initial=0) - squared)
    return np.concatenate([vectors, rest[:, None].astype(np.float32)], axis=1)


def of_queries(queries: Float32[np.ndarray, "q d"], space: str) -> Float32[np.ndarray, "q D"]:
    """Returns queries as the graph of `space` is searched with; their norms change no order."""
    if space == EUCLIDEAN:
        return np.concatenate([queries, np.zeros((len(queries), 1), np.float32)], axis=1)
    return queries
