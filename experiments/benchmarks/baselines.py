"""Measures baselines: iALS beside the package implicit, and each baseline on a corpus of tens of thousands of items."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import time

import numpy as np
import scipy.sparse

from retrieval import Interactions, Table, load_data, split
from retrieval.baselines import BASELINES, Training, ials
from retrieval.baselines.base import matrix
from retrieval.common.environment import peak_rss
from retrieval.config.schema import Data
from retrieval.evaluation.protocol import Evaluation

from .measure import Measurement, seconds, share

IALS = {"factors": 64, "regularization": 37.5, "alpha": 5.0, "iterations": 10}
BOUNDS = {
    "popularity": 60.0,
    "item_knn_cosine": 60.0,
    "item_knn_bm25": 60.0,
}  # seconds to fit and evaluate; 3600 for the others
MEMORY = 24e9  # bytes


def implicit_als(rounds: int = 7) -> list[Measurement]:
    """Measures iALS on the 80,000 training interactions of MovieLens 100K, beside implicit on one core and on all.

    The reference is the faster of the two: on a busy machine the threads of implicit wait for each other.

    Raises:
      ImportError: implicit is not installed.
    """
    try:
        import implicit
        import threadpoolctl
    except ImportError as error:
        raise ImportError(f"{error}: baselines/ials is measured beside implicit; pip install -e '.[bench]'") from None
    dataset = load_data(Data(dataset="movielens-100k"))
    training = Training.of(dataset.parts.train_and_validation(), dataset.corpus)
    interactions = scipy.sparse.csr_matrix(
        matrix(training.histories, training.num_candidates)
    )  # the type that implicit takes

    def train_implicit(num_threads):  # 0: all cores
        model = implicit.als.AlternatingLeastSquares(**IALS, num_threads=num_threads, random_state=0)
        model.fit(interactions, show_progress=False)

    with threadpoolctl.threadpool_limits(1, "blas"):  # as implicit advises
        library, *others = seconds(
            lambda: ials.candidate_factors(training, **IALS),
            lambda: train_implicit(0),
            lambda: train_implicit(1),
            rounds=rounds,
        )
    return [share("baselines/ials", library, min(others), "s", "implicit, conjugate gradients, one core or all", 1.0)]


def large(
    num_queries: int = 30_000, num_candidates: int = 41_000, num_events: int = 800_000, names: tuple[str, ...] = ()
) -> list[Measurement]:
    """Measures the time to fit and evaluate baselines at their start settings, and the peak memory of EASE.

    Each baseline has a process of its own.
    """
    sizes, measurements = (num_queries, num_candidates, num_events), []
    for name in names or (*BOUNDS, "ease"):
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(1, context) as pool:
            taken, peak = pool.submit(fit_and_evaluate, name, *sizes).result()
        measurements.append(share(f"baselines/{name}", taken, BOUNDS.get(name, 3600.0), "s", "the bound", 1.0))
        if name == "ease":
            measurements.append(share("baselines/ease/memory", float(peak), MEMORY, "bytes", "24 GB", 1.0))
    return measurements


def fit_and_evaluate(name: str, num_queries: int, num_candidates: int, num_events: int) -> tuple[float, int]:
    """Returns the seconds to fit and evaluate a baseline, and the peak memory of this process in bytes."""
    rng = np.random.default_rng(0)
    activity, popularity = rng.lognormal(0, 1, num_queries), np.arange(1, num_candidates + 1) ** -0.9
    queries = rng.choice(num_queries, num_events, p=activity / activity.sum())
    candidates = rng.choice(num_candidates, num_events, p=popularity / popularity.sum())
    pairs = np.unique(queries * num_candidates + candidates)
    events = Interactions(pairs // num_candidates, pairs % num_candidates)
    parts = split(events, "random", test_fraction=0.2, validation_fraction=0.0, seed=0)
    corpus = Table(np.arange(num_candidates))
    started = time.perf_counter()
    evaluation = Evaluation.of(parts.train, parts.test, corpus, ks=(5, 10, 20, 50, 100))
    scorer = BASELINES[name].fit(Training.of(parts.train, corpus), **BASELINES[name].start)
    evaluation.measure(evaluation.rank_by(scorer))
    return time.perf_counter() - started, peak_rss()["peak_rss_bytes"]
