"""The learning rate over a training."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retrieval.training.optimizers.schedules import SCHEDULES, schedule


def shares(name, num_steps, warmup=0.0, steps=None):
    share = schedule(name, num_steps, warmup)
    return [float(share(step)) for step in range(num_steps + 3 if steps is None else steps)]


def test_constant_stays_linear_falls_in_equal_steps_and_cosine_slowly_at_both_ends():
    assert shares("constant", 4) == [1] * 7
    assert shares("linear", 4) == pytest.approx([1, 0.75, 0.5, 0.25, 0, 0, 0])
    assert shares("cosine", 4) == pytest.approx([1, 0.853553, 0.5, 0.146447, 0, 0, 0], abs=1e-6)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_warm_up_rises_in_equal_steps_to_the_peak(name):
    assert shares(name, 20, warmup=0.2, steps=5) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])


def test_cosine_after_a_warm_up_is_that_of_optax():
    values = shares("cosine", 50, warmup=0.1)[5:50]
    cosine = optax.cosine_decay_schedule(1.0, 45)
    assert values == pytest.approx([float(cosine(step)) for step in range(45)], abs=1e-6)


@settings(deadline=None, max_examples=30)
@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 50), st.floats(0, 0.99))
def test_a_share_is_between_nothing_and_the_peak_and_the_first_step_moves(name, num_steps, warmup):
    found = np.asarray(jax.vmap(schedule(name, num_steps, warmup))(jnp.arange(52)))
    assert np.all((found >= 0) & (found <= 1)) and found[0] > 0


def test_a_misspelt_schedule_and_a_warm_up_of_everything_are_refused():
    with pytest.raises(ValueError, match="schedule must be one of .*, got 'cosin'; did you mean 'cosine'"):
        schedule("cosin", 10)
    for warmup in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"warmup must be a share of the steps, in \[0, 1\), got"):
            schedule("linear", 10, warmup)
