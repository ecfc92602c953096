"""Training and held-out examples, weighted by ratings, and the negatives of their batches."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float32, Int32

from retrieval.batching.batch import NO_ROW
from retrieval.batching.negatives import Negatives
from retrieval.common.lists import Lists
from retrieval.config import schema as config_lib
from retrieval.data.encoding import Encoding, Examples
from retrieval.data.interactions import Interactions
from retrieval.data.sequences import Windows
from retrieval.features.context import QueryContext
from retrieval.pipeline.tasks import Tasks


def create_examples(
    config: config_lib.Config,
    encoding: Encoding,
    examples: Examples,
    train: Interactions,
    context: QueryContext,
    tasks: Tasks,
) -> tuple[Examples, int]:
    """Returns the training examples in the form that the query tower reads, and the examples a step.

    Args:
      config: the experiment.
      encoding: vocabularies.
      examples: one for each interaction of train that is no dislike.
      train: the training part.
      context: the maker of the query tower's columns. If the tower reads histories, an example is a window of one.
      tasks: what the heads predict.

    Raises:
      ValueError: `loss.rating_weight` is set, and the interactions have no ratings.
    """
    train = encoding.without_dislikes(train)
    weights = rating_weights(train.ratings, config.loss.rating_weight)
    if not context.length:
        batch_size = max(1, min(config.train.batch_size, len(train)))
        columns = context.of_requests(train.timestamps, len(train))
        weights = examples.weights if weights is None else weights
        return examples._replace(weights=weights, context=columns, labels=tasks.labels(train.ratings)), batch_size
    histories = encoding.histories(encoding.queries.ids, train)
    windows: Windows = histories.windows(context.length + 1)
    if weights is None:
        weights = np.ones(windows.rows.shape)
    else:
        weights = rating_weights(windows.ratings, config.loss.rating_weight, train.ratings)
    examples = window_examples(1 + windows.owners, windows, weights, context)
    examples = examples._replace(labels=tasks.labels(windows.ratings))
    # train.batch_size counts targets: so many windows have as many on average
    share = len(windows.owners) / max(int(windows.is_target.sum()), 1)
    return examples, max(1, min(round(config.train.batch_size * share), len(windows.owners)))


def rating_weights(
    ratings: Float32[np.ndarray, "*S"] | None, strength: float, train: Float32[np.ndarray, "n"] | None = None
) -> Float32[np.ndarray, "*S"] | None:
    """Returns the weights of examples by rating: max(0, 1 + strength * (rating - mean) / half the range).

    >>> rating_weights(np.array([1.0, 5.0, 5.0, 5.0], np.float32), 0.5)
    array([0.25, 1.25, 1.25, 1.25], dtype=float32)

    Args:
      ratings: ratings of the examples; NaN gives the weight 1.
      strength: how much ratings count; 0: not at all.
      train: the ratings that give mean and range; None: `ratings`.

    Returns:
      Weights in the shape of the ratings; None if `strength` is 0: all weigh 1.

    Raises:
      ValueError: `strength` is not 0, and `ratings` is None.
    """
    if strength == 0:
        return None
    if ratings is None:
        raise ValueError("loss.rating_weight is set, and the interactions have no ratings; set data.columns.rating")
    train = ratings if train is None else train
    known = train[~np.isnan(train)]
    if not len(known):
        return np.ones_like(ratings)
    half_range = max((known.max() - known.min()) / 2, np.finfo(np.float32).tiny)
    shares = (ratings - known.mean()) / half_range
    return np.maximum(1 + strength * np.nan_to_num(shares), 0.0).astype(np.float32)


def window_examples(
    query_rows: Int32[np.ndarray, "n"], windows: Windows, weights: Float[np.ndarray, "n L"], context: QueryContext
) -> Examples:
    """Returns windows of histories as examples with several targets each.

    Args:
      query_rows: row of the query of each window.
      windows: the windows; their length L is that of the histories and one more.
      weights: weight of each interaction as a target.
      context: the maker of the query tower's columns.
    """
    return Examples(
        query_rows.astype(np.int32),
        np.where(windows.is_target, windows.rows, np.int32(NO_ROW)),
        np.where(windows.is_target, weights, 0.0).astype(np.float32),
        context.of_windows(windows),
    )


def held_out_windows(encoding: Encoding, held_out: Interactions, before: Interactions, length: int) -> Windows:
    """Returns a window [n, length + 1] for each held-out interaction: its query's last history, then itself as target.

    Args:
      encoding: vocabularies.
      held_out: the interactions, n of them.
      before: interactions that the histories of the queries are taken from.
      length: interactions of a history at most.
    """
    history = encoding.histories(held_out.query_ids, before).last(length)
    number = len(held_out)
    ratings = np.full(number, np.nan, np.float32) if held_out.ratings is None else held_out.ratings
    times = np.full(number, -1, np.int64) if held_out.timestamps is None else held_out.timestamps

    def followed(column, by):
        return np.concatenate([column, by[:, None]], axis=1)

    return Windows(
        history.owners,
        followed(history.rows, encoding.candidates.rows(held_out.candidate_ids)),
        np.arange(length + 1)[None, :] == np.full((number, 1), length),
        followed(history.ratings, ratings),
        followed(history.times, times),
    )


def create_negatives(
    negatives: config_lib.DrawnNegatives, counts: Float[np.ndarray, "N"], disliked: Lists | None
) -> Negatives:
    """Creates the sampler of the batches' negatives, with frequencies from train.

    Raises:
      ValueError: disliked candidates are to be drawn, and the config does not say which they are.
    """
    if negatives.dislikes and disliked is None:
        raise ValueError(
            f"negatives.dislikes is {negatives.dislikes}, and nothing is disliked; set data.dislike_at_most"
        )
    return Negatives(
        counts,
        uniform=negatives.uniform,
        popular=negatives.popular,
        queue=negatives.queue,
        disliked=disliked,
        dislikes=negatives.dislikes,
    )
