"""The learning rate over the steps of a training, as a share of its peak."""

from __future__ import annotations

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from retrieval.common.choices import did_you_mean

SCHEDULES = {
    "constant": lambda done: jnp.ones_like(done),
    "linear": lambda done: 1 - done,
    "cosine": lambda done: (1 + jnp.cos(jnp.pi * done)) / 2,
}


def schedule(name: str, num_steps: int, warmup: float = 0.0) -> optax.Schedule:
    """Returns the share of the learning rate in step 0, 1, ...: it rises to 1 over the warm-up, then follows `name`.

    >>> [round(float(schedule("linear", 10, warmup=0.2)(step)), 3) for step in (0, 1, 2, 6, 10, 99)]
    [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]

    Args:
      name: "constant", or "linear" or "cosine", which fall to 0 after `num_steps` steps.
      num_steps: the steps that the schedule spans; later ones are as the last.
      warmup: share of them in which the learning rate rises in equal steps.

    Raises:
      ValueError: there is no such schedule, or the share is not in [0, 1).

    Source of the cosine: Loshchilov and Hutter 2017, "SGDR", without restarts.
    """
    if name not in SCHEDULES:
        raise ValueError(f"schedule must be one of {', '.join(SCHEDULES)}, got {name!r}{did_you_mean(name, SCHEDULES)}")
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup must be a share of the steps, in [0, 1), got {warmup}")
    rising = warmup * num_steps

    def share(step: int | Int[Array, ""]) -> Float[Array, ""]:
        step = jnp.asarray(step, jnp.float32)
        risen = jnp.minimum(1.0, (step + 1) / max(rising, 1.0))
        return risen * SCHEDULES[name](jnp.clip((step - rising) / max(num_steps - rising, 1.0), 0.0, 1.0))

    return share
