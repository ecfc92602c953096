"""Measures exact ranks, top-k and metrics beside the bare scores, and beside common practice."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from retrieval.common.lists import Lists
from retrieval.data.encoding import Targets
from retrieval.evaluation.measure import evaluate
from retrieval.ranking import blocks as scoring
from retrieval.ranking.ranks import count_block, rank
from retrieval.ranking.topk import top_k

from .measure import Measurement, seconds, share, times_better

MEMORY_LIMIT = 256e6  # bytes


def ranks(num_queries: int = 4096, num_candidates: int = 1_000_000, dimension: int = 64) -> list[Measurement]:
    """Measures the ranks of one relevant candidate per query, five excluded, beside the scores alone."""
    queries, candidates = _embeddings(num_queries, num_candidates, dimension)
    relevant, excluded = (_random_lists(num_queries, num_candidates, length, seed=length) for length in (1, 5))
    library, bare = seconds(
        lambda: rank(queries, candidates, relevant, excluded), _bare_scores(queries, candidates), rounds=2
    )
    temporary = _temporary_bytes(num_queries, num_candidates, dimension)
    return [
        share("evaluate/ranks", library, bare, "s", "the scores alone, in the same blocks", 1.5),
        share("evaluate/ranks/memory", temporary, MEMORY_LIMIT, "bytes", "a fixed limit", 1),
    ]


def exact_top_k(
    num_queries: int = 1024, num_candidates: int = 1_000_000, dimension: int = 64, k: int = 100
) -> list[Measurement]:
    """Measures the k best candidates of each query, beside the scores alone."""
    queries, candidates = _embeddings(num_queries, num_candidates, dimension)
    library, bare = seconds(lambda: top_k(queries, candidates, k), _bare_scores(queries, candidates), rounds=9)
    return [share("topk/exact", library, bare, "s", "the scores alone, in the same blocks", 1.5)]


def movielens(
    num_queries: int = 941, num_candidates: int = 1682, num_relevant: int = 20_000, num_seen: int = 80_000
) -> list[Measurement]:
    """Measures every metric of an evaluation in the shape of MovieLens-100K, beside the way of TensorFlow Recommenders.

    That computes accuracies by `top_k` for each test row, and the metrics of a user by a sort of all scores.
    """
    queries, candidates = _embeddings(num_queries, num_candidates, 32)
    targets = _targets(num_queries, num_candidates, num_relevant, num_seen)
    accuracies = [k for k in (1, 5, 10, 50, 100) if k <= num_candidates]
    library, sorting = seconds(
        lambda: evaluate(queries, candidates, targets, ks=[10], top_k_accuracies=accuracies),
        lambda: _sort_everything(queries, candidates, targets, 10, accuracies),
    )
    return [times_better("evaluate/movielens", library, sorting, "s", "top_k of each test row, sort of each user", 10)]


def _temporary_bytes(num_queries, num_candidates, dimension):
    """Returns the temporary memory of the program that counts, by the analysis of the compiler."""
    size, block = scoring.block_shape(num_queries, num_candidates)
    lengths = (scoring.LEAST_PAIRS, scoring.LEAST_PAIRS, scoring.num_blocks(num_candidates, block) + 1)
    pairs = scoring.Pairs(*(jax.ShapeDtypeStruct((length,), jnp.int32) for length in lengths))
    queries, candidates = (jax.ShapeDtypeStruct((n, dimension), jnp.float32) for n in (size, num_candidates))
    rows = jax.ShapeDtypeStruct((size, 1), jnp.int32)
    program = count_block.lower(queries, candidates, rows, pairs, block).compile()
    return program.memory_analysis().temp_size_in_bytes


def _embeddings(num_queries, num_candidates, dimension):
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((num_queries, dimension), np.float32)
    return queries, jnp.asarray(rng.standard_normal((num_candidates, dimension), np.float32))


def _random_lists(num_queries, num_candidates, length, seed):
    rows = np.random.default_rng(seed).integers(0, num_candidates, num_queries * length)
    return Lists.from_pairs(np.repeat(np.arange(num_queries), length), rows, num_queries)


def _targets(num_queries, num_candidates, num_relevant, num_seen):
    """Returns random disjoint relevant and seen candidates; every query has some."""
    rng = np.random.default_rng(0)
    pairs = rng.permutation(num_queries * num_candidates)[: num_relevant + num_seen]
    owners, rows = np.divmod(pairs, num_candidates)
    owners[:num_queries] = np.arange(num_queries)
    parts = [slice(None, num_relevant), slice(num_relevant, None)]
    relevant, seen = (Lists.from_pairs(owners[part], rows[part], num_queries) for part in parts)
    return Targets(np.arange(num_queries), np.arange(num_queries, dtype=np.int32), relevant, seen)


def _bare_scores(queries, candidates):
    """Returns a function that computes all scores, in the blocks of `rank`, and keeps the last block."""
    size, block = scoring.block_shape(len(queries), len(candidates))

    @jax.jit
    def last_scores(queries, candidates):
        def score(i, _):
            return scoring.score_block(queries, candidates, i, block)[0]

        start = jnp.zeros((len(queries), block), jnp.float32)
        return jax.lax.fori_loop(0, scoring.num_blocks(len(candidates), block), score, start)[0]

    blocks = [scoring.pad_rows(queries[start : start + size], size) for start in range(0, len(queries), size)]
    return lambda: [last_scores(block, candidates) for block in blocks]


def _sort_everything(queries, candidates, targets, k, accuracies):
    """Computes accuracies by `top_k` of batches of test rows, and precision and recall by a sort for each user."""
    owners, rows = targets.relevant.owners, targets.relevant.rows
    hits = np.zeros(len(accuracies))
    for start in range(0, len(rows), 4096):
        batch = slice(start, start + 4096)
        scores, own = _best_scores(queries[owners[batch]], candidates, rows[batch], max(accuracies))
        hits += [np.sum(own >= scores[:, k - 1]) for k in accuracies]
    found = []
    scores = np.array(scoring.dot(jnp.asarray(queries), candidates))
    for query, query_scores in enumerate(scores):
        for left_out in (targets.seen[query][:0], targets.seen[query]):
            query_scores[left_out] = -np.inf
            found.append(np.isin(np.argsort(-query_scores)[:k], targets.relevant[query]).sum())
    return hits, found


@functools.partial(jax.jit, static_argnums=3)
def _best_scores(queries, candidates, rows, k):
    scores = scoring.dot(queries, candidates)
    return jax.lax.top_k(scores, k)[0], jnp.take_along_axis(scores, rows[:, None], axis=1)[:, 0]
