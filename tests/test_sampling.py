"""What is known of a candidate from its count alone."""

import numpy as np
import pytest

from retrieval.sampling import in_batch_probabilities, log_prior


def test_a_candidate_is_drawn_as_often_as_its_share_of_the_examples():
    assert in_batch_probabilities(np.array([0, 6, 1, 1])).tolist() == [0, 0.75, 0.125, 0.125]


def test_candidates_are_drawn_alike_from_counts_of_any_type():
    counts = np.array([0, 6, 1, 1])
    assert np.array_equal(in_batch_probabilities(counts.astype(np.float32)), in_batch_probabilities(counts))


def test_the_prior_of_an_unseen_candidate_is_zero_and_finite():
    assert log_prior(np.array([0, 5]))[0] == 0


def test_the_prior_is_the_log_of_the_count_plus_a_half_over_a_half():
    assert log_prior(np.array([1, 2, 10])) == pytest.approx(np.log([3, 5, 21]))  # 1.5, 2.5 and 10.5 over 0.5
