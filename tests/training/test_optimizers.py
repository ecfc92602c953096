"""Optimizers by their optax names."""

import jax
import jax.numpy as jnp
import pytest

from retrieval.training.optimizers import by_name


def updates(optimizer, *gradients):
    """Returns what the optimizer adds to a parameter of value 1 at each of the gradients, one after the other."""
    parameter = jnp.ones(())
    state, added = optimizer.init(parameter), []
    for gradient in gradients:
        update, state = optimizer.update(jnp.asarray(gradient), state, parameter)
        added.append(float(update))
    return added


def test_adagrad_divides_by_the_norm_of_all_gradients_and_of_a_tenth():
    found = updates(by_name.create("adagrad", 0.1), 3.0, 4.0)
    assert found == pytest.approx([-0.3 / 9.1**0.5, -0.4 / 25.1**0.5])


def test_rowwise_adagrad_adds_the_mean_square_of_a_row_and_eps_under_the_root():
    rule = by_name.rowwise_adagrad(0.5, initial_accumulator_value=2.0, eps=3.0)
    params = {"matrix": jnp.ones((2, 2)), "vector": jnp.ones(2)}
    gradients = {"matrix": jnp.array([[3.0, -1.0], [0.0, 0.0]]), "vector": jnp.array([2.0, 0.0])}
    state = rule.init(params)
    for steps in (1, 2):
        found, state = rule.update(gradients, state)
        row = 2.0 + steps * (9 + 1) / 2
        assert state.sum_of_squares["matrix"].tolist() == [row, 2.0]
        assert found["matrix"].tolist() == [pytest.approx([-1.5 / (row + 3) ** 0.5, 0.5 / (row + 3) ** 0.5]), [0, 0]]
        assert found["vector"].tolist() == pytest.approx([-1.0 / (2 + 4 * steps + 3) ** 0.5, 0.0])


def test_defaults_are_those_of_the_documentation():
    assert updates(by_name.rowwise_adagrad(1.0), 0.0003) == pytest.approx([-0.0003 / 0.10000019**0.5], rel=1e-6)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes types in adam
        tiny, moving = (updates(by_name.lazy_adam(0.1), *gradients) for gradients in ((1e-8,), (2.0, 0.0)))
    assert tiny == pytest.approx([-0.05], rel=1e-3)  # eps is half of the divisor
    assert moving[1] == pytest.approx(-0.1 * (0.9 / 1.9) / (0.999 / 1.999) ** 0.5, rel=1e-3)


def test_arguments_reach_the_optimizer():
    assert updates(by_name.create("adagrad", 0.1, initial_accumulator_value=7.0), 3.0) == pytest.approx([-0.3 / 4])
    assert updates(by_name.create("sgd", 0.1, momentum=0.9), 1.0, 1.0) == pytest.approx([-0.1, -0.19])


@pytest.mark.parametrize("name", ["adam", "adamw", "rmsprop", "lion"])
def test_other_optimizers_step_downhill(name):
    with jax.numpy_dtype_promotion("standard"):  # optax mixes types in adam
        (update,) = updates(by_name.create(name, 0.01), 3.0)
    assert -0.2 < update < 0


def test_a_misspelt_optimizer_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="no optimizer 'adagard'; did you mean 'adagrad'"):
        by_name.create("adagard", 0.1)


@pytest.mark.parametrize("name", ["", "scale_by_adam", "exponential_decay", "chain"])
def test_what_is_no_optimizer_of_a_learning_rate_is_refused(name):
    with pytest.raises(ValueError, match=f"no optimizer '{name}'"):
        by_name.create(name, 0.1)


def test_an_argument_that_the_optimizer_lacks_is_refused_with_the_nearest_name():
    with pytest.raises(ValueError, match="optax.sgd has no argument 'momentun'; did you mean 'momentum'"):
        by_name.create("sgd", 0.1, momentun=0.9)
