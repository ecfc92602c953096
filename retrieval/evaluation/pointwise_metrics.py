"""Errors of predicted labels, query by query; the metrics are weighted means over the queries."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Float64, Int

LEAST_PROBABILITY = 1e-7  # about the spacing of float32 below 1: the log of a probability that was rounded to 0 or 1


def squared_errors(predictions: Float[np.ndarray, "n"], labels: Float[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Returns the squared error of each prediction; the root of their mean is the RMSE."""
    return (predictions.astype(np.float64) - labels) ** 2


def absolute_errors(predictions: Float[np.ndarray, "n"], labels: Float[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Returns the absolute error of each prediction; their mean is the MAE."""
    return np.abs(predictions.astype(np.float64) - labels)


def log_losses(predictions: Float[np.ndarray, "n"], labels: Float[np.ndarray, "n"]) -> Float64[np.ndarray, "n"]:
    """Returns -log of the probability of each label, 0 or 1, in nats; probabilities are at least 1e-7.

    >>> log_losses(np.array([0.25, 0.25]), np.array([1.0, 0.0])).round(4).tolist()
    [1.3863, 0.2877]
    """
    probabilities = np.where(labels == 1, predictions, 1 - predictions.astype(np.float64))
    return -np.log(np.clip(probabilities, LEAST_PROBABILITY, 1.0))


def means_by_query(
    values: Float64[np.ndarray, "n"], owners: Int[np.ndarray, "n"], num_queries: int
) -> tuple[Float64[np.ndarray, "num_queries"], Float64[np.ndarray, "num_queries"]]:
    """Returns the mean of the values of each query, NaN where it has none, and their number; O(n) time.

    With the numbers as weights, the mean over the queries is that over the values.
    """
    numbers = np.bincount(owners, minlength=num_queries).astype(np.float64)
    sums = np.bincount(owners, values, num_queries)
    return np.divide(sums, numbers, out=np.full(num_queries, np.nan), where=numbers > 0), numbers


def auc_by_query(
    predictions: Float[np.ndarray, "n"],
    labels: Float[np.ndarray, "n"],
    owners: Int[np.ndarray, "n"],
    num_queries: int,
) -> Float64[np.ndarray, "num_queries"]:
    """Returns how often a label 1 of a query is predicted above a label 0 of it, equal predictions half; O(n log n).

    It is the AUC among the query's own interactions (the "GAUC" of Zhu et al. 2017, "Optimized cost per click in Taobao
    display advertising", whose mean over the users is weighted); NaN where all labels of the query are the same. An AUC
    over all interactions would reward telling mild queries from strict ones, which ranks nothing for either.

    >>> auc_by_query(np.array([0.9, 0.4, 0.4, 0.5]), np.array([1.0, 1.0, 0.0, 1.0]), np.array([0, 0, 0, 1]), 2).tolist()
    [0.75, nan]
    """
    order = np.lexsort((predictions, owners))
    owners, predictions, ones = owners[order], predictions[order], labels[order] == 1
    numbers = np.bincount(owners, minlength=num_queries)
    ranks = np.arange(1, len(owners) + 1) - np.repeat(np.cumsum(numbers) - numbers, numbers)  # within the query
    begins = np.append(True, (owners[1:] != owners[:-1]) | (predictions[1:] != predictions[:-1]))[: len(owners)]
    ties = np.cumsum(begins) - 1
    mean_ranks = (np.bincount(ties, ranks) / np.bincount(ties))[ties]
    num_ones = np.bincount(owners[ones], minlength=num_queries).astype(np.float64)
    above = np.bincount(owners[ones], mean_ranks[ones], num_queries) - num_ones * (num_ones + 1) / 2
    pairs = num_ones * (numbers - num_ones)
    return np.divide(above, pairs, out=np.full(num_queries, np.nan), where=pairs > 0)
