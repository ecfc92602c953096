"""Measures a whole evaluation, with all metrics, slices and resamples, beside a loop over the users."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import jax
import numpy as np

from retrieval.evaluation.measure import Catalogue
from retrieval.evaluation.protocol import LEVEL, Evaluation
from retrieval.evaluation.slice_metrics import sliced_metrics
from retrieval.ranking import blocks

from .measure import Measurement, seconds, share, times_better

SLICED = tuple(metric.name for metric in sliced_metrics())
SECONDS = 1.0  # bound of the evaluation of the tutorial
RESAMPLES_MEASURED = 50  # of the bootstrap loop; its time is extrapolated


def movielens(ks: tuple[int, ...] = (5, 10, 20, 50, 100), resamples: int = 2000, rounds: int = 5) -> list[Measurement]:
    """Measures the evaluation of the tutorial: embeddings of 32 dimensions on the test part of MovieLens 100K."""
    from configs import tutorial
    from retrieval import load_data
    from retrieval.pipeline.evaluate_trained import create_evaluation

    config = tutorial.get_config()
    config.evaluate.ks = ks
    evaluation = create_evaluation(config, load_data(config.data))
    rng = np.random.default_rng(0)
    shapes = (len(evaluation.targets.query_ids), 32), (len(evaluation.catalogue.counts), 32)
    queries, candidates = (rng.standard_normal(shape).astype(np.float32) for shape in shapes)
    (library,) = seconds(lambda: _evaluate(evaluation, queries, candidates, resamples), rounds=rounds)
    loop = loop_seconds(evaluation, queries, candidates, resamples)
    return [
        share("evaluation/tutorial", library, SECONDS, "seconds", "the bound", 1.0),
        times_better("evaluation/loop", library, loop, "seconds", "a loop over users and resamples", 50.0),
    ]


def _evaluate(evaluation, queries, candidates, resamples):
    return evaluation.measure(evaluation.rank(queries, candidates), resamples=resamples).metrics


def loop_seconds(evaluation: Evaluation, queries: np.ndarray, candidates: np.ndarray, resamples: int) -> float:
    """Returns the seconds of the loops; those over resamples are extrapolated."""
    started = time.perf_counter()
    table, slices = user_loop(evaluation, queries, candidates)
    user_seconds = time.perf_counter() - started
    started = time.perf_counter()
    measured = min(resamples, RESAMPLES_MEASURED)
    bootstrap_loop(np.concatenate([*table.values(), *slices.values()]), measured)
    return user_seconds + (time.perf_counter() - started) * resamples / measured


def user_loop(
    evaluation: Evaluation, queries: np.ndarray, candidates: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns the metrics of each user, and of each user in each slice, by name [1, Q] each.

    The plain form of `Evaluation.measure`, one user after the other, for scores without ties and lists without repeats.
    Coverage and Gini are left out, since they are metrics of all lists together.
    """
    scores = np.asarray(jax.jit(blocks.dot)(queries, candidates))
    targets, num_queries = evaluation.targets, len(queries)
    table: dict[str, np.ndarray] = {}
    slices: dict[str, np.ndarray] = {}

    def note(columns, name, query, value):
        columns.setdefault(name, np.full((1, num_queries), np.nan))[0, query] = value

    cold = set() if targets.cold is None else set(targets.cold.positions.tolist())
    for query in range(num_queries):
        relevant = set(targets.relevant[query].tolist())
        for prefix, left_out in (("including_seen", set()), ("excluding_seen", set(targets.seen[query].tolist()))):
            order = [c for c in np.argsort(-scores[query], kind="stable").tolist() if c not in left_out]
            for name, value in ranking_metrics(order, relevant, evaluation.ks).items():
                note(table, f"{prefix}/{name}", query, value)
            history = targets.seen[query].tolist()
            for k in evaluation.ks:
                for name, value in list_metrics(order[:k], history, evaluation.catalogue).items():
                    note(table, f"{prefix}/{name}_at_{k}", query, value)
        if cold & relevant:
            among_cold = [c for c in np.argsort(-scores[query], kind="stable").tolist() if c in cold]
            for name, value in ranking_metrics(among_cold, cold & relevant, evaluation.ks).items():
                note(table, f"cold_candidates/{name}", query, value)
        for s, slice_ in enumerate(evaluation.candidate_slices):
            own = {c for c in relevant if slice_.members[c]}
            indices = [index for index, candidate in enumerate(order) if candidate in own]
            for k in evaluation.ks:
                values = user_metrics(indices, len(own), k) if own else {}
                for name in SLICED:
                    note(slices, f"candidates {s} {name}_at_{k}", query, values.get(name, math.nan))
        for s, slice_ in enumerate(evaluation.query_slices):
            for k in evaluation.ks:
                for name in SLICED:
                    value = table[f"excluding_seen/{name}_at_{k}"][0, query] if slice_.members[query] else math.nan
                    note(slices, f"queries {s} {name}_at_{k}", query, value)
    return table, slices


def ranking_metrics(order: list[int], relevant: set[int], ks: Sequence[int]) -> dict[str, float]:
    """Returns the metrics of one user, from the ranked candidates."""
    indices = [index for index, candidate in enumerate(order) if candidate in relevant]
    others = len(order) - len(indices)
    pairs = sum(others - (index - i) for i, index in enumerate(indices))  # of a hit and an irrelevant one behind it
    values = {"auc": pairs / (len(relevant) * others), "mean_rank": sum(index + 1 for index in indices) / len(relevant)}
    for k in ks:
        values |= {f"{name}_at_{k}": value for name, value in user_metrics(indices, len(relevant), k).items()}
    return values


def user_metrics(indices: list[int], num_relevant: int, k: int) -> dict[str, float]:
    """Returns the metrics at k of one user, from the ascending indices of the hits in the list."""
    hits = [index for index in indices if index < k]
    ideal = min(k, num_relevant)
    gains = [1 / math.log2(index + 2) for index in hits]
    return {
        "interactions/hit_rate": len(hits) / num_relevant,
        "interactions/mrr": sum(1 / (index + 1) for index in hits) / num_relevant,
        "interactions/ndcg": sum(gains) / num_relevant,
        "hit_rate": float(bool(hits)),
        "precision": len(hits) / k,
        "recall": len(hits) / num_relevant,
        "capped_recall": len(hits) / ideal,
        "mrr": 1 / (hits[0] + 1) if hits else 0.0,
        "map": sum((i + 1) / (index + 1) for i, index in enumerate(hits)) / ideal,
        "ndcg": sum(gains) / sum(1 / math.log2(i + 2) for i in range(ideal)),
    }


def list_metrics(items: list[int], history: list[int], catalogue: Catalogue) -> dict[str, float]:
    """Returns the metrics of the list of one user."""
    counts = [int(catalogue.counts[item]) for item in items]
    popularity = sum(counts) / len(items)
    history_popularity = sum(int(catalogue.counts[item]) for item in history) / len(history) if history else math.nan
    vectors = catalogue.features[items]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = np.divide(vectors, lengths, out=np.zeros(vectors.shape), where=lengths > 0)
    similarities = units @ units.T
    num_pairs = len(items) * (len(items) - 1)
    values = {
        "novelty": sum(math.log2(catalogue.num_queries / max(count, 1)) for count in counts) / len(items),
        "average_popularity": popularity,
        "popularity_lift": (popularity - history_popularity) / history_popularity,
    }
    if num_pairs:
        values["diversity"] = 1 - (similarities.sum() - np.trace(similarities)) / num_pairs
    return values


def bootstrap_loop(table: np.ndarray, resamples: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the bounds of the 95 % intervals of the means of the rows, one resample of the users after the other."""
    rng = np.random.default_rng(0)
    means = []
    for _ in range(resamples):
        drawn = table[:, rng.integers(0, table.shape[1], table.shape[1])]
        defined = ~np.isnan(drawn)
        means.append(np.where(defined, drawn, 0).sum(axis=1) / np.maximum(defined.sum(axis=1), 1))
    return tuple(np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0))
