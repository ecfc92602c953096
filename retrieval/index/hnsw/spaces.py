"""Spaces in which a graph of nearest neighbours finds large inner products.

inner_product  the vectors as they are; an inner product is no distance, so a graph may reach fewer of them
normalized     vectors scaled to length 1; the nearest by angle are scored again, so recall falls where norms differ
euclidean      one dimension more, sqrt(L**2 - |x|**2) with the largest norm L and 0 for a query: the nearest have the
               largest inner products (Bachrach et al. 2014, "Speeding up the Xbox recommender system")
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32

INNER_PRODUCT, NORMALIZED, EUCLIDEAN = "inner_product", "normalized", "euclidean"
SPACES = {INNER_PRODUCT: "ip", NORMALIZED: "ip", EUCLIDEAN: "l2"}  # to hnswlib's name of the distance


def candidate_points(vectors: Float32[np.ndarray, "n d"], space: str) -> Float32[np.ndarray, "n D"]:
    """Maps vectors of candidates to the points that a graph of `space` holds; O(n d) time.

    D is d + 1 in the Euclidean space, else d. A zero vector stays zero.

    >>> candidate_points(np.float32([[3, 4], [0, 3]]), "euclidean")
    array([[3., 4., 0.],
           [0., 3., 4.]], dtype=float32)
    """
    if space == INNER_PRODUCT:
        return vectors
    squared = np.vecdot(vectors, vectors).astype(np.float64)
    if space == NORMALIZED:
        return (vectors / np.sqrt(np.where(squared > 0, squared, 1))[:, None]).astype(np.float32)
    last = np.sqrt(squared.max(initial=0) - squared)  # with it, all points have the norm L
    return np.concatenate([vectors, last[:, None].astype(np.float32)], axis=1)


def query_points(queries: Float32[np.ndarray, "q d"], space: str) -> Float32[np.ndarray, "q D"]:
    """Maps queries to the points that are searched in a graph of `space`; their norms do not change an order."""
    if space == EUCLIDEAN:
        return np.concatenate([queries, np.zeros((len(queries), 1), np.float32)], axis=1)
    return queries
