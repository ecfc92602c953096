"""Measures the touched-row optimizer step, whose cost must not depend on the number of rows."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from retrieval import InBatchSoftmax, TwoTower, create_state, train_step
from retrieval.batching.assembly import batches
from retrieval.batching.batch import Capacity
from retrieval.data.encoding import Examples
from retrieval.models.id_tower import IdTower
from retrieval.training.optimizers.by_name import create

from .measure import Measurement, seconds, share


def touched_rows(
    many: int = 10_000_000, few: int = 10_000, dimension: int = 64, batch_size: int = 8192, steps: int = 20
) -> list[Measurement]:
    """Measures steps of Adagrad on a table of many rows, beside the same steps on few rows; the state is donated."""
    runs = [_steps(num_rows, few, dimension, batch_size, steps) for num_rows in (many, few)]
    against = f"the same steps with {few} rows instead of {many}"
    return [share("optimizer/touched_rows", *seconds(*runs, rounds=3), "seconds", against, 1.3)]


def _steps(num_rows: int, num_candidates: int, dimension: int, batch_size: int, steps: int):
    """Returns a function that trains `steps` more steps, with `num_rows` queries."""
    rngs = nnx.Rngs(0)
    towers = [IdTower(size, dimension, initial_scale=0.1, rngs=rngs) for size in (num_rows, num_candidates)]
    model = TwoTower(*towers)
    optimizer = create("adagrad", 0.1)
    rng = np.random.default_rng(0)
    rows = [rng.integers(1, n, steps * batch_size, dtype=np.int32) for n in (num_rows, num_candidates)]
    examples = Examples(*rows, np.ones(steps * batch_size, np.float32))
    capacity = Capacity(batch_size, batch_size, batch_size)
    stacked = jax.tree.map(jnp.asarray, batches(examples, np.arange(steps * batch_size), batch_size, capacity))
    state = create_state(model, optimizer)

    @functools.partial(jax.jit, donate_argnums=0)
    def continue_training(state, stacked):
        return jax.lax.scan(lambda s, b: train_step(s, b, InBatchSoftmax(), model, optimizer), state, stacked)

    def run():
        nonlocal state
        state, sums = continue_training(state, stacked)
        return sums

    return run
