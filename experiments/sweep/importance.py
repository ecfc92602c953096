"""Importance of a setting in a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.stats
from jaxtyping import Float, Int, Shaped

NUM_GROUPS = 4  # of trials, by a numeric setting
LEAST = 8  # trials; fewer say nothing about importance


def effect_size(values: Sequence[Any], scores: Sequence[float], by_value: bool) -> float:
    """Returns the share of the variance of the trials' ranks that one setting alone explains, from 0 to 1.

    This is the effect size of the Kruskal-Wallis test, (H - k + 1) / (n - k) for k groups of n trials, clipped at 0
    (Tomczak & Tomczak 2014). Ranks keep a few failed trials from dominating; the correction for k brings a setting
    without effect near 0; groups let an optimum in the middle of the range count as much as one at its end. It does not
    measure interactions of settings, and the shares of several settings need not sum to 1.

    Args:
      values: value of the setting in each trial [n].
      scores: of the trials, higher is better [n].
      by_value: whether each value is a group; else the values are numbers, and the groups are quarters of the trials.

    >>> round(effect_size([1, 2, 3, 4, 5, 6, 7, 8], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], by_value=False), 4)
    0.9167
    """
    groups = _by_value(values) if by_value else _quarters(np.asarray(values, np.float64))
    scores = np.asarray(scores, np.float64)
    samples = [scores[groups == group] for group in np.unique(groups)]
    num_trials, num_groups = len(scores), len(samples)
    if num_groups in (1, num_trials) or np.ptp(scores) == 0:
        return 0.0
    statistic = scipy.stats.kruskal(*samples).statistic  # ties share the mean of their ranks
    return max(0.0, float((statistic - num_groups + 1) / (num_trials - num_groups)))


def _by_value(values: Sequence[Any]) -> Int[np.ndarray, "n"]:
    distinct = list(dict.fromkeys(values))
    return np.array([distinct.index(value) for value in values])


def _quarters(values: Float[np.ndarray, "n"]) -> Shaped[np.ndarray, "n"]:
    return np.searchsorted(np.quantile(values, np.arange(1, NUM_GROUPS) / NUM_GROUPS), values)
