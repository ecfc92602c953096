"""The sums that a loss logs, over the steps of an epoch."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from retrieval.models.binding import Params, flatten_params

EXAMPLES = "examples"  # prefix of the denominators among the logged sums
PerReplica = Float64[np.ndarray, "R"] | float  # of each replica of a vmapped ensemble, or of one training


class EpochSums:
    """The loss's sums of each step of an epoch, collected a block behind the device."""

    def __init__(self, epoch: int, total: int):
        self.epoch, self.total = epoch, total
        self.steps = 0  # taken, the block that is computed included
        self.running: dict[str, Float[Array, "steps"]] = {}
        self.blocks: list[dict[str, Float[np.ndarray, "steps"]]] = []

    def add(self, sums: dict[str, Float[Array, "steps"]]) -> None:
        """Takes the sums of a block that may still be computed."""
        self.running = sums
        self.steps += len(sums["examples"])

    def collect(self) -> None:
        """Waits for the block added last, so that blocks do not queue up on the device.

        Raises:
          FloatingPointError: a sum of one of its steps is not finite.
        """
        if not self.running:
            return
        values = jax.device_get(self.running)
        self.running = {}
        self.blocks.append(values)
        logged = {name: value for name, value in values.items() if not name.startswith(EXAMPLES)}
        bad = np.flatnonzero(~np.logical_and.reduce([np.isfinite(value) for value in logged.values()]))
        if len(bad):
            batch = self.steps - len(values["examples"]) + int(bad[0])
            received = {name: float(value[bad[0]]) for name, value in logged.items()}
            raise self._error(f"the loss is not finite in epoch {self.epoch + 1}", batch, str(received))

    def check_finite(self, params: Params) -> None:
        """Checks the parameters after the last step of the epoch, whose effect no later loss shows.

        Raises:
          FloatingPointError: one is not finite.
        """
        bad = [path for path, is_finite in flatten_params(_are_finite(params)).items() if not is_finite]
        if bad:
            what = f"a parameter is not finite after epoch {self.epoch + 1}"
            raise self._error(what, self.total - 1, f"in {', '.join(bad)}")

    def means(self) -> dict[str, float]:
        """Returns the means over the epoch, see `means`."""
        sums = {name: sum(np.sum(b[name], dtype=np.float64) for b in self.blocks) for name in self.blocks[0]}
        return {name: float(mean) for name, mean in means(sums).items()}

    def _error(self, what: str, batch: int, received: str) -> FloatingPointError:
        step = self.epoch * self.total + batch + 1
        return FloatingPointError(
            f"{what}, step {step} (batch {batch} of the epoch, from 0): {received}; lower the learning rate, or look "
            "for extreme weights in the data"
        )


def means(sums: Mapping[str, PerReplica]) -> dict[str, PerReplica]:
    """Returns each logged sum over its number of examples: "examples/NAME" where there is one, or else "examples".

    NaN where there are no examples.

    >>> sums = {"loss": 6.0, "task/rating": 2.0, "examples": 3.0, "examples/task/rating": 1.0}
    >>> {name: float(mean) for name, mean in means(sums).items()}
    {'loss': 2.0, 'task/rating': 2.0}
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            name: np.divide(value, sums.get(f"{EXAMPLES}/{name}", sums[EXAMPLES]))
            for name, value in sums.items()
            if not name.startswith(EXAMPLES)
        }


@jax.jit
def _are_finite(params: Params) -> Params:
    return jax.tree.map(lambda leaf: jnp.all(jnp.isfinite(leaf)), params)
