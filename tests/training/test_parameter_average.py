"""The average of the parameters over the steps, of touched rows and of all."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from training_cases import make_model, one_batch, random_batches

from retrieval.objectives import InBatchSoftmax
from retrieval.training.optimizers import by_name
from retrieval.training.optimizers.by_name import TouchedRows
from retrieval.training.optimizers.parameter_average import averaged, averaged_params
from retrieval.training.step import create_state, train_step

HORIZON = 4  # few steps, so that tests go far beyond it


def plain_average(values, horizon):
    """Averages values by the definition: by 1 / min(t, horizon) towards that of step t."""
    average = np.zeros_like(values[0], np.float64)
    for t, value in enumerate(values, 1):
        average += (value - average) / min(t, horizon)
    return average


def averages(optimizer, gradients, start=1.0):
    """Returns the parameter and its average after each of the gradients."""
    params = {"bias": jnp.asarray(start)}
    state, found = optimizer.init(params), []
    for gradient in gradients:
        updates, state = optimizer.update({"bias": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
        found.append((float(params["bias"]), float(averaged_params(state, params)["bias"])))
    return found


def test_the_first_steps_are_a_mean_and_the_later_ones_an_exponential_average():
    found = averages(averaged(optax.sgd(1.0), decay=0.5), [1.0, 1.0, 1.0, 1.0])
    assert [param for param, _ in found] == [0, -1, -2, -3]
    assert [average for _, average in found] == [0, -0.5, -1.25, -2.125]


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.999])
def test_the_average_of_what_stays_is_itself_to_the_bit(decay):
    found = averages(averaged(optax.sgd(1.0), decay), [0.0] * 30, start=0.1)
    assert {average for _, average in found} == {float(np.float32(0.1))}


def test_before_the_first_step_it_is_the_parameters():
    params = {"kernel": jnp.array([[1.0, 2.0]])}
    assert averaged_params(averaged(optax.sgd(1.0), 0.9).init(params), params)["kernel"].tolist() == [[1, 2]]


def test_without_an_average_the_last_parameters_are_kept():
    state = create_state(make_model(), by_name.create("adagrad", 0.1))
    assert state.kept is state.params


@functools.cache
def steps(name):
    """Returns the compiled step over touched rows and that over all, both with averages, and their start."""
    optimizer = averaged(by_name.create(name, 0.1), decay=1 - 1 / HORIZON)
    assert isinstance(optimizer, TouchedRows)
    model = make_model()
    return *(
        jax.jit(functools.partial(train_step, loss=InBatchSoftmax(embedding_l2=0.1), model=model, optimizer=rule))
        for rule in (optimizer, optax.GradientTransformation(*optimizer))
    ), create_state(model, optimizer)


@pytest.mark.parametrize("name", ["adagrad", "sgd"])
@settings(deadline=None, max_examples=15)
@given(data=st.data())
def test_touched_rows_have_the_average_over_all_steps_whenever_they_were_touched(name, data):
    touched, dense, start = steps(name)
    state = of_all = start
    history = []
    for batch in random_batches(data, 7):
        state, of_all = touched(state, batch)[0], dense(of_all, batch)[0]
        history.append(jax.device_get(of_all.params))
    expected = jax.tree.map(lambda *values: plain_average(values, HORIZON), *history)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), state.kept, expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), of_all.kept, expected)


def test_training_itself_does_not_change():
    model, rule = make_model(), by_name.create("adagrad", 0.1)
    rules = rule, averaged(rule, 0.9)
    states = [create_state(model, optimizer) for optimizer in rules]
    for _ in range(3):
        states = [
            train_step(state, one_batch([1, 2, 2], [3, 4, 1]), InBatchSoftmax(), model, optimizer)[0]
            for state, optimizer in zip(states, rules, strict=True)
        ]
    jax.tree.map(np.testing.assert_array_equal, *(state.params for state in states))
    assert not np.array_equal(*(jax.tree.leaves(state.kept)[0] for state in states))


def test_a_row_that_is_never_touched_keeps_its_value():
    touched, _, state = steps("adagrad")
    before = np.asarray(state.params["query_tower"]["embedding"]["embedding"])
    for _ in range(6):
        state, _ = touched(state, one_batch([1, 2], [1, 2]))
    after = np.asarray(state.kept["query_tower"]["embedding"]["embedding"])
    assert np.array_equal(before[3:], after[3:]) and not np.array_equal(before[1], after[1])


def test_averages_of_narrow_parameters_are_taken_in_float32():
    model = make_model(dtype=jnp.bfloat16)
    optimizer = averaged(by_name.create("sgd", 0.1), 0.9)
    state, _ = train_step(create_state(model, optimizer), one_batch([1, 2], [1, 2]), InBatchSoftmax(), model, optimizer)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.opt_state.average)} == {"float32"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(state.kept)} == {"bfloat16"}


def test_a_state_with_averages_can_be_donated():
    model, optimizer = make_model(), averaged(by_name.create("adagrad", 0.1), 0.9)
    step = functools.partial(train_step, loss=InBatchSoftmax(), model=model, optimizer=optimizer)
    state, _ = jax.jit(step, donate_argnums=0)(create_state(model, optimizer), one_batch([1, 2], [1, 2]))
    assert int(state.step) == 1  # no two leaves share a buffer


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.5, float("nan")])
def test_a_decay_that_averages_nothing_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay of the average must be in \(0, 1\), e.g. 0.999, got"):
        averaged(optax.sgd(1.0), decay)
