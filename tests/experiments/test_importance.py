"""How much a setting mattered: the effect size of the Kruskal-Wallis test, against scipy and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from experiments.sweep.importance import effect_size


def plain(groups, scores):
    """The definition, from scipy's statistic."""
    samples = [[score for group, score in zip(groups, scores, strict=True) if group == g] for g in set(groups)]
    n, k = len(scores), len(samples)
    if k < 2 or k == n or len(set(scores)) == 1:
        return 0.0
    return max(0.0, (stats.kruskal(*samples).statistic - k + 1) / (n - k))


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5])), min_size=1, max_size=30))
def test_it_is_that_of_scipy(trials):
    groups, scores = zip(*trials, strict=True)
    assert effect_size(groups, scores, by_value=True) == pytest.approx(plain(groups, scores), abs=1e-9)


def test_the_order_of_scores_counts_and_not_how_far_apart_they_are():
    values, scores = [1, 1, 1, 2, 2, 2], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert effect_size(values, scores, by_value=True) == effect_size(
        values, np.exp(9 * np.array(scores)), by_value=True
    )


def test_a_best_value_in_the_middle_matters_and_noise_does_not():
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, 200)
    assert effect_size(x, -(x**2), by_value=False) > 0.6
    assert effect_size(rng.uniform(-1, 1, 200), -(x**2), by_value=False) < 0.05


@pytest.mark.parametrize("values", [[3.0] * 9, list(range(9))])
def test_one_value_or_one_score_says_nothing(values):
    assert effect_size(values, [0.5] * 9, by_value=False) == 0
    assert effect_size([3.0] * 9, list(range(9)), by_value=False) == 0


def test_values_of_a_choice_may_be_tuples_and_texts():
    assert effect_size([(), (64,), (), (64,)], [1.0, 2.0, 1.1, 2.1], by_value=True) > 0.5
    assert effect_size([(), (64,), "a", 3], [1.0, 2.0, 1.1, 2.1], by_value=True) == 0
