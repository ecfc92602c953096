"""The held-out loss is the mean over the examples of all batches."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from retrieval.data.encoding import Examples
from retrieval.models.binding import init
from retrieval.models.id_tower import IdTower
from retrieval.models.two_tower import TwoTower
from retrieval.objectives import InBatchSoftmax
from retrieval.training.held_out_loss import mean_loss

EXAMPLES = Examples(
    np.array([1, 2, 1, 3, 3, 2, 1], np.int32),
    np.array([1, 4, 2, 2, 3, 1, 3], np.int32),
    np.array([1, 2, 0.5, 1, 1, 3, 1], np.float32),
)


@pytest.fixture(scope="module")
def model():
    def tower(num_rows, seed):
        return IdTower(num_rows, 3, initial_scale=1.0, rngs=nnx.Rngs(seed))

    return TwoTower(tower(4, 0), tower(5, 1))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 50])
def test_the_mean_loss_is_that_of_the_batches_without_padding(model, batch_size):
    queries = np.asarray(model.query(jnp.asarray(EXAMPLES.query_rows)), np.float64)
    candidates = np.asarray(model.candidate(jnp.asarray(EXAMPLES.candidate_rows)), np.float64)
    total = 0.0
    for start in range(0, 7, batch_size):
        batch = slice(start, start + batch_size)
        logits = queries[batch] @ candidates[batch].T
        losses = np.log(np.exp(logits).sum(axis=1)) - logits.diagonal()
        total += EXAMPLES.weights[batch] @ losses
    got = mean_loss(model, init(model), InBatchSoftmax(), EXAMPLES, batch_size=batch_size)
    assert got == pytest.approx(total / EXAMPLES.weights.sum(), rel=1e-5, abs=1e-6)


def test_the_mean_loss_is_that_of_the_given_parameters(model):
    zeros = jax.tree.map(jnp.zeros_like, init(model))
    got = mean_loss(model, zeros, InBatchSoftmax(), EXAMPLES, batch_size=7)
    assert got == pytest.approx(math.log(7))  # each of the 7 columns is as likely as the others
