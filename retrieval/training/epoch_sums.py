"""Collects the sums that a loss logs in each step of an epoch, checks them, and averages them."""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float64

from retrieval.models.binding import Params, flatten_params

EXAMPLES = "examples"  # prefix of the denominators among the logged sums
PerReplica = Float64[np.ndarray, "R"] | float  # one value for each replica of a vmapped ensemble, or one value


class EpochSums:
    """Sums of each step of an epoch, fetched one block behind the device so that the host never idles it.

    Attributes:
      epoch: number of the epoch, from 0.
      total: steps of the epoch.
      steps: steps added so far, those of a block still in computation included.
      running: sums of the block that may still be in computation.
      blocks: fetched sums of each earlier block.
    """

    def __init__(self, epoch: int, total: int):
        self.epoch, self.total = epoch, total
        self.steps = 0
        self.running: dict[str, Float[Array, "steps"]] = {}
        self.blocks: list[dict[str, Float[np.ndarray, "steps"]]] = []

    def add(self, sums: dict[str, Float[Array, "steps"]]) -> None:
        """Adds the sums of a block that may still be in computation."""
        self.running = sums
        self.steps += len(sums["examples"])

    def collect(self) -> None:
        """Waits for the block added last and fetches its sums.

        Raises:
          FloatingPointError: a sum of one of its steps is not finite; the message names the step and its batch.
        """
        if not self.running:
            return
        values = jax.device_get(self.running)
        self.running = {}
        self.blocks.append(values)
        logged = {name: value for name, value in values.items() if not name.startswith(EXAMPLES)}
        not_finite = np.flatnonzero(~np.logical_and.reduce([np.isfinite(value) for value in logged.values()]))
        if len(not_finite):
            batch = self.steps - len(values["examples"]) + int(not_finite[0])
            received = {name: float(value[not_finite[0]]) for name, value in logged.items()}
            raise self._error(f"the loss is not finite in epoch {self.epoch + 1}", batch, str(received))

    def check_finite(self, params: Params) -> None:
        """Checks that the last step of the epoch left finite parameters, since no later loss of the epoch shows it.

        Raises:
          FloatingPointError: a parameter is not finite.
        """
        not_finite = [path for path, is_finite in flatten_params(_are_finite(params)).items() if not is_finite]
        if not_finite:
            what = f"a parameter is not finite after epoch {self.epoch + 1}"
            raise self._error(what, self.total - 1, f"in {', '.join(not_finite)}")

    def means(self) -> dict[str, float]:
        """Returns the means over the epoch, see the function `means`."""
        sums = {name: sum(np.sum(block[name], dtype=np.float64) for block in self.blocks) for name in self.blocks[0]}
        return {name: float(mean) for name, mean in means(sums).items()}

    def _error(self, what: str, batch: int, received: str) -> FloatingPointError:
        step = self.epoch * self.total + batch + 1
        return FloatingPointError(
            f"{what}, step {step} (batch {batch} of the epoch, from 0): {received}; lower the learning rate, or look "
            "for extreme weights in the data"
        )


def means(sums: Mapping[str, PerReplica]) -> dict[str, PerReplica]:
    """Returns each logged sum divided by its number of examples: the sum "examples/NAME" if logged, else "examples".

    The mean over 0 examples is NaN.

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
