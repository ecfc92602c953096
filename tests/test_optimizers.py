"""Optimizers by their optax names."""

import jax.numpy as jnp
import optax
import pytest

from retrieval import optimizers


def test_an_optimizer_is_optaxs_with_its_arguments():
    params, gradients = jnp.array([1.0]), jnp.array([3.0])
    ours = optimizers.create("sgd", 0.1, momentum=0.9)
    theirs = optax.sgd(0.1, momentum=0.9)
    assert ours.update(gradients, ours.init(params))[0] == theirs.update(gradients, theirs.init(params))[0]


def test_a_misspelt_optimizer_is_named_with_the_nearest():
    with pytest.raises(ValueError, match="no optimizer 'adagard'; did you mean 'adagrad'"):
        optimizers.create("adagard", 0.1)


def test_an_argument_that_the_optimizer_lacks_is_refused():
    with pytest.raises(ValueError, match="optax.adagrad has no argument 'epsilon'"):
        optimizers.create("adagrad", 0.1, epsilon=1e-7)


@pytest.mark.parametrize("name", ["adagrad", "adam", "adamw", "sgd", "rmsprop", "lion"])
def test_the_common_optimizers_are_there(name):
    assert optimizers.create(name, 0.1).init(jnp.zeros(2)) is not None
