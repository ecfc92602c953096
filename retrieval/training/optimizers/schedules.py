"""Learning-rate schedules of optax by name, as a share of the peak, after a linear warm-up."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from retrieval.common.choices import check_choice

SCHEDULES = {  # name -> the schedule over a number of steps, from 1
    "constant": lambda num_steps: optax.constant_schedule(1.0),
    "linear": lambda num_steps: optax.linear_schedule(1.0, 0.0, num_steps),
    "cosine": lambda num_steps: optax.cosine_decay_schedule(1.0, num_steps),
}


def schedule(name: str, num_steps: int, warmup: float = 0.0) -> optax.Schedule:
    """Returns a schedule of the learning rate relative to its peak: a warm-up from 0 to 1, then the schedule `name`.

    >>> [round(float(schedule("linear", 10, warmup=0.2)(step)), 3) for step in (0, 1, 2, 6, 10, 99)]
    [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]

    Args:
      name: "constant", or "linear" or "cosine", which reach 0 after `num_steps` steps.
      num_steps: number of steps of the training, the warm-up included; the value stays as it is after them.
      warmup: share of the steps in which the learning rate rises linearly; step 0 already has a share above 0.

    Raises:
      ValueError: the name is unknown, or `warmup` is not in [0, 1).

    Source of the cosine: Loshchilov and Hutter 2017, "SGDR", equation 5 without restarts.
    """
    check_choice("schedule", name, SCHEDULES)
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup must be a share of the steps, in [0, 1), got {warmup}")
    warmup_steps = warmup * num_steps
    rise = optax.linear_schedule(0.0, 1.0, max(warmup_steps, 1.0))
    decay = SCHEDULES[name](max(num_steps - warmup_steps, 1.0))
    # the rate of step 0 is that after one step of the warm-up: a rate of 0 would waste the step
    joined = optax.join_schedules([lambda step: rise(step + 1), decay], [warmup_steps])

    def share(step: int | Int[Array, ""]) -> Float[Array, ""]:
        return joined(jnp.asarray(step, jnp.float32))  # optax would keep integers, and a warm-up may end between steps

    return share
