"""Priors from counts of candidates."""

import numpy as np
import pytest

from retrieval.data.popularity import log_prior


def test_the_prior_of_an_unseen_candidate_is_zero_and_finite():
    assert log_prior(np.array([0, 5]))[0] == 0


def test_the_prior_is_the_log_of_the_count_plus_a_half_over_a_half():
    assert log_prior(np.array([1, 2, 10])) == pytest.approx(np.log([3, 5, 21]))  # 1.5, 2.5 and 10.5 over 0.5
