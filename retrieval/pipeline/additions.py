"""Fits the models that `model.additions` adds to the scores of the trained towers.

An addition is a pair of fixed towers: an embedding for each query row and each candidate, appended to those of the
trained towers, so that one index searches the sum of both scores.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from retrieval.baselines import ease
from retrieval.baselines.base import Training
from retrieval.config import schema as config_lib
from retrieval.config.checks import arguments_of
from retrieval.data import popularity
from retrieval.data.encoding import Encoding, Examples
from retrieval.data.interactions import Interactions
from retrieval.models.fixed_towers import FixedTowers
from retrieval.models.two_tower import OFFSET_SCALE


@dataclasses.dataclass(frozen=True)
class Fitting:
    """The data that additions are fitted to.

    Attributes:
      config: the experiment.
      encoding: vocabularies.
      pairs: one example for each interaction of train that is no dislike.
      train: the training part.
    """

    config: config_lib.Config
    encoding: Encoding
    pairs: Examples
    train: Interactions


def fit_all(fitting: Fitting) -> tuple[FixedTowers, ...]:
    """Fits the additions of the config, in their order.

    Raises:
      ValueError: an addition does not fit the data, as without timestamps.
    """
    return tuple(
        ADDITIONS[addition.name](fitting, arguments_of(addition), addition.weight)
        for addition in fitting.config.model.additions
    )


def linear(fitting: Fitting, arguments: config_lib.Ease, weight: float) -> FixedTowers:
    """Returns the embeddings of EASE, see `baselines.ease.towers`, by the rows of the vocabularies."""
    encoding, rank = fitting.encoding, arguments.rank
    training = Training.of(fitting.train, encoding.corpus, fitting.config.data.dislike_at_most or None)
    query_embeddings, embeddings = ease.towers(training, arguments.l2, rank, arguments.half_distance)
    queries = np.zeros((encoding.queries.num_rows, rank), np.float32)
    queries[encoding.queries.rows(np.unique(fitting.train.query_ids))] = np.float32(weight) * query_embeddings
    candidates = np.zeros((encoding.candidates.num_entities, rank), np.float32)
    known = encoding.corpus_rows > 0
    candidates[encoding.corpus_rows[known]] = embeddings[known]
    return FixedTowers(queries, candidates)


def recent_popularity(fitting: Fitting, arguments: config_lib.RecentPopularity, weight: float) -> FixedTowers:
    """Returns embeddings that move the scores to the popularity at the end of train, see `popularity.recent_prior`.

    Raises:
      ValueError: the interactions have no timestamps.
    """
    encoding, pairs = fitting.encoding, fitting.pairs
    times = encoding.without_dislikes(fitting.train).timestamps
    if times is None:
        raise ValueError(
            "model.additions has 'recent_popularity', and the interactions have no timestamps; set "
            "data.columns.timestamp, or remove it"
        )
    prior = popularity.recent_prior(
        pairs.query_rows,
        pairs.candidate_rows,
        times,
        num_query_rows=encoding.queries.num_rows,
        num_candidate_rows=encoding.candidates.num_rows,
        half_life=arguments.half_life,
        news=arguments.news,
    )
    scale = np.float32(OFFSET_SCALE)
    strength = np.float32(weight * fitting.config.loss.temperature)
    return FixedTowers(scale * prior.mixes[prior.groups], strength / scale * prior.shifts)


ADDITIONS: dict[str, Callable[..., FixedTowers]] = {"ease": linear, "recent_popularity": recent_popularity}
