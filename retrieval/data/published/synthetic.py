"""A small synthetic data set with structure to learn, for tests and first steps without a download."""

from __future__ import annotations

import numpy as np

from retrieval.data.interactions import Interactions, Table

NUM_QUERIES, NUM_CANDIDATES, NUM_GROUPS, EVENTS_PER_QUERY = 300, 400, 8, 40


def load(seed: int = 0) -> tuple[Interactions, Table]:
    """Creates 12,000 events of 300 queries over 400 candidates, and the table of the candidates.

    Queries and candidates belong to 8 groups. A query meets a candidate of its own group in 4 of 5 events, and
    popularity within a group falls with 1 / rank; no pair occurs twice. Timestamps are minutes in file order.
    """
    rng = np.random.default_rng(seed)
    query_group = rng.integers(NUM_GROUPS, size=NUM_QUERIES)
    candidate_group = np.arange(NUM_CANDIDATES) % NUM_GROUPS
    popularity = 1.0 / (1 + np.arange(NUM_CANDIDATES) // NUM_GROUPS)
    pairs = []
    for query in range(NUM_QUERIES):
        own = candidate_group == query_group[query]
        weights = popularity * np.where(own, 4.0, 1.0 / (NUM_GROUPS - 1))
        chosen = rng.choice(NUM_CANDIDATES, EVENTS_PER_QUERY, replace=False, p=weights / weights.sum())
        pairs += [(query, candidate) for candidate in chosen]
    queries, candidates = rng.permutation(np.array(pairs)).T
    timestamps = 1_700_000_000 + 60 * np.arange(len(queries))
    titles = np.array([f"Group {g}, number {i}" for i, g in enumerate(candidate_group)])
    table = Table(np.arange(NUM_CANDIDATES), {"title": titles})
    return Interactions(queries, candidates, timestamps=timestamps), table
