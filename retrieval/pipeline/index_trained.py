"""The index over the candidates of a trained model."""

from __future__ import annotations

import dataclasses
import pathlib
import time

import numpy as np

from retrieval import index as index_lib
from retrieval.config import schema as config_lib
from retrieval.index import Searcher
from retrieval.pipeline.checks import SEED, index_choices
from retrieval.pipeline.trained import Trained
from retrieval.ranking.topk import top_k
from retrieval.serving.bundle import layout

NUM_QUERIES = 4096  # of those that train knows, at most, that choose the index and certify its recall
RECALL_AT = 10  # the length of lists at which the recall of every index is measured


def build_index(settings: config_lib.Index, trained: Trained) -> Searcher:
    """Chooses and builds the index over the corpus.

    A sample of the queries that train knows, with their histories, chooses the index and certifies its recall.

    Raises:
      ValueError: a setting is out of range.
    """
    # a candidate that train does not know, and that has no features, may have a zero embedding: the least popular
    candidates = np.asarray(trained.candidate_embeddings)
    known = trained.recipe.encoding.queries.ids
    sample = np.sort(np.random.default_rng(SEED).permutation(len(known))[:NUM_QUERIES])
    queries = np.asarray(trained.query_embeddings(known[sample], trained.train))
    index = index_lib.tune(
        candidates,
        queries,
        clock=time.perf_counter,
        k=settings.k,
        target=settings.target_recall,
        seed=SEED,
        threads=settings.threads,
        choices=index_choices(settings),
    )
    if f"recall_at_{RECALL_AT}" in index.metrics:
        return index
    answerable = queries[queries.any(axis=1)]  # a query of zeros has no answer that could be missed
    recall = (
        index_lib.recall(index, answerable, top_k(answerable, candidates, RECALL_AT)[1]) if len(answerable) else 1.0
    )
    return dataclasses.replace(index, metrics={**index.metrics, f"recall_at_{RECALL_AT}": recall})


def bundled_index(settings: config_lib.Index, trained: Trained, folder: pathlib.Path) -> Searcher:
    """Returns the index in the bundle at `folder` if it is over the embeddings of this model; else builds it.

    Raises:
      ValueError: the index of the bundle is damaged.
    """
    if (folder / layout.INDEX).exists():
        index = index_lib.load(folder / layout.INDEX)
        if index.certificate is not None and np.array_equal(index.embeddings, trained.candidate_embeddings):
            return index
    return build_index(settings, trained)
