"""The plain form of every search: all inner products, one after the other, sorted."""

import numpy as np


def reference(embeddings, queries, k, excluded=None, allowed=None):
    """Returns scores and positions of the best k, padded with -inf and -1; ties go to the lower position."""
    embeddings, queries = np.asarray(embeddings, np.float32), np.asarray(queries, np.float32)
    all_scores = np.full((len(queries), k), -np.inf, np.float32)
    all_positions = np.full((len(queries), k), -1, np.int32)
    for query, vector in enumerate(queries):
        left = set(range(len(embeddings))) if allowed is None else set(np.flatnonzero(allowed).tolist())
        left = left if vector.any() else set()  # each candidate scores 0: none is best
        left -= set() if excluded is None else set(np.asarray(excluded[query]).tolist())
        scored = sorted((-float(np.vecdot(embeddings[row], vector)), row) for row in left)[:k]
        all_scores[query, : len(scored)] = [-score for score, _ in scored]
        all_positions[query, : len(scored)] = [row for _, row in scored]
    return all_scores, all_positions


def assert_same(answer, expected):
    """Both parts are the same, bit for bit."""
    np.testing.assert_array_equal(answer[1], expected[1])
    np.testing.assert_array_equal(answer[0], expected[0])
    assert answer[0].dtype == np.float32 and answer[1].dtype == np.int32
