"""What is added to the scores of the trained towers when they answer: given embeddings beside theirs."""

from __future__ import annotations

import numpy as np

from retrieval.baselines import ease
from retrieval.baselines.base import Training
from retrieval.common.choices import check_choice
from retrieval.config import schema as config_lib
from retrieval.config.checks import SOFTMAXES
from retrieval.data import popularity
from retrieval.data.encoding import Encoding, Examples
from retrieval.data.interactions import Interactions
from retrieval.models.fixed_towers import FixedTowers
from retrieval.models.two_tower import OFFSET_SCALE


def linear(config: config_lib.Config, encoding: Encoding, train: Interactions) -> FixedTowers | None:
    """Returns the linear model beside the towers, see `baselines.ease.towers`, by the rows of the vocabularies."""
    settings = config.model
    if not settings.linear_rank:
        return None
    training = Training.of(train, encoding.corpus, config.data.dislike_at_most or None)
    of_queries, of_positions = ease.towers(
        training, settings.linear_l2, settings.linear_rank, settings.linear_half_distance
    )
    scale = np.float32(settings.linear_weight)
    queries = np.zeros((encoding.queries.num_rows, settings.linear_rank), np.float32)
    queries[encoding.queries.rows(np.unique(train.query_ids))] = scale * of_queries
    candidates = np.zeros((encoding.candidates.num_entities, settings.linear_rank), np.float32)
    known = encoding.corpus_rows > 0
    candidates[encoding.corpus_rows[known]] = of_positions[known]
    return FixedTowers(queries, candidates)


def recent_prior(
    config: config_lib.Config, encoding: Encoding, pairs: Examples, train: Interactions
) -> FixedTowers | None:
    """Returns what moves the scores to the popularity at the end of train, see `sampling.recent_prior`; None: nothing.

    Args:
      config: the experiment.
      encoding: vocabularies.
      pairs: the training part without dislikes, in rows.
      train: the training part.

    Raises:
      ValueError: scores are no log-probabilities, there are no timestamps, or the settings make no sense.
    """
    half_life, news = config.model.prior_half_life, config.model.prior_news
    if news and not half_life:
        raise ValueError("model.prior_news is set without model.prior_half_life, which it adds to; set both")
    if not half_life:
        return None
    if half_life < 0:
        raise ValueError(f"model.prior_half_life must be positive, or 0 for none, got {half_life}")
    check_choice("loss.name, with model.prior_half_life,", config.loss.name, SOFTMAXES)
    times = encoding.without_dislikes(train).timestamps
    if times is None:
        raise ValueError("model.prior_half_life is set, and there are no timestamps; set data.columns.timestamp")
    prior = popularity.recent_prior(
        pairs.query_rows,
        pairs.candidate_rows,
        times,
        num_query_rows=encoding.queries.num_rows,
        num_candidate_rows=encoding.candidates.num_rows,
        half_life=half_life,
        news=news,
    )
    scale = np.float32(OFFSET_SCALE)
    return FixedTowers(scale * prior.mixes[prior.groups], np.float32(config.loss.temperature) / scale * prior.shifts)
