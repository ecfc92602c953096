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
    """Returns the examples in the form that the query tower reads, and how many make a batch."""
    train = encoding.without_dislikes(train)
    weights = rating_weights(train.ratings, config.loss.rating_weight)
    if not context.length:
        batch_size = max(1, min(config.train.batch_size, len(train)))
        columns = context.of_requests(train.timestamps, len(train))
        weights = examples.weights if weights is None else weights
        return examples._replace(weights=weights, context=columns, labels=tasks.labels(train.ratings)), batch_size
    histories = encoding.histories(encoding.queries.ids, train)
    windows: Windows = histories.windows(context.length + 1)
    of_rating = (
        np.ones(windows.rows.shape)
        if weights is None
        else rating_weights(windows.ratings, config.loss.rating_weight, train.ratings)
    )
    examples = of_windows(1 + windows.owners, windows, of_rating, context)
    examples = examples._replace(labels=tasks.labels(windows.ratings))
    share = len(windows.owners) / max(int(windows.is_target.sum()), 1)
    return examples, max(1, min(round(config.train.batch_size * share), len(windows.owners)))


def rating_weights(
    ratings: Float32[np.ndarray, "*S"] | None, strength: float, train: Float32[np.ndarray, "n"] | None = None
) -> Float32[np.ndarray, "*S"] | None:
    """Returns the weight of each example, 1 + strength * (rating - mean) / half the range, at least 0; None: all 1.

    >>> rating_weights(np.array([1.0, 5.0, 5.0, 5.0], np.float32), 0.5)
    array([0.25, 1.25, 1.25, 1.25], dtype=float32)

    Args:
      ratings: of the examples; one that is NaN weighs 1.
      strength: 0: all weigh the same.
      train: the ratings whose mean and range count; None: those of the examples.

    Raises:
      ValueError: there are no ratings, and `strength` is not 0.
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


def of_windows(
    query_rows: Int32[np.ndarray, "n"], windows: Windows, weights: Float[np.ndarray, "n L"], context: QueryContext
) -> Examples:
    """Returns windows of histories as examples, a number of targets each."""
    return Examples(
        query_rows.astype(np.int32),
        np.where(windows.is_target, windows.rows, np.int32(NO_ROW)),
        np.where(windows.is_target, weights, 0.0).astype(np.float32),
        context.of_windows(windows),
    )


def held_out_windows(encoding: Encoding, held_out: Interactions, before: Interactions, length: int) -> Windows:
    """Returns a window for each held-out interaction: it is the target, after the last of what its query did before.

    Windows are of `length` interactions and the target [n, length + 1].
    """
    history = encoding.histories(held_out.query_ids, before).last(length)
    number = len(held_out)
    last = np.full((number, 1), np.nan, np.float32) if held_out.ratings is None else held_out.ratings[:, None]
    times = np.full((number, 1), -1, np.int64) if held_out.timestamps is None else held_out.timestamps[:, None]

    def followed(column, by):
        return np.concatenate([column, by], axis=1)

    return Windows(
        history.owners,
        followed(history.rows, encoding.candidates.rows(held_out.candidate_ids)[:, None]),
        np.arange(length + 1)[None, :] == np.full((number, 1), length),
        followed(history.ratings, last),
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
