"""Training: a pure step, a block of steps as one compiled program, and a generator over epochs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Float64, Int, Key

from retrieval.batching.batch import Batch, check_batch_size, num_batches
from retrieval.batching.device import device_blocks
from retrieval.batching.negatives import Negatives
from retrieval.config.placements import check_placement
from retrieval.data.encoding import Examples
from retrieval.models.two_tower import Params, bind, flatten_params, init, take_apart
from retrieval.training.optimizers import parameter_average, touched_rows
from retrieval.training.optimizers.by_name import TouchedRows

# What `fit` minimises: (model, batch) -> the value, and sums to log; see `means` for what divides them. A pytree, so
# that the arrays in it are arguments of the compiled step.
Loss = Callable[[nnx.Module, Batch], tuple[Float[Array, ""], dict[str, Float[Array, ""]]]]

EXAMPLES = "examples"  # how the names of the sums begin that divide others
OfReplicas = Float64[np.ndarray, "R"] | float  # of each of several trainings, or of one


class TrainState(NamedTuple):
    """All that training changes.

    Attributes:
      step: optimizer steps taken.
      params: the model's parameters.
      opt_state: the optimizer's state.
    """

    step: Int[Array, ""]
    params: Params
    opt_state: optax.OptState

    @property
    def kept(self) -> Params:
        """The parameters to evaluate and to keep: `params`, or their average where the optimizer is `averaged`."""
        return parameter_average.averaged_params(self.opt_state, self.params)


def create_state(model: nnx.Module, optimizer: optax.GradientTransformation) -> TrainState:
    """Returns the state before the first step, with the model's own parameters."""
    params = init(model)
    return TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(_widen(params)))


def train_step(
    state: TrainState,
    batch: Batch,
    loss: Loss,
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""] | None = None,
) -> tuple[TrainState, dict[str, Float[Array, ""]]]:
    """Returns the state after one optimizer step on the batch, and the loss's sums before it.

    With an optimizer of `TouchedRows`, only the rows that the loss looks up are read and written, where it tells which
    by `lookups`, see `Objective.lookups`: time and memory then depend on the batch, not on the number of rows. Donate
    the state to the compiled step (`jax.jit(..., donate_argnums=0)`) to have it updated in place.

    What is random in training, as dropout, is a function of `key` and the number of the step; without a key nothing is.
    """
    lookups = {}
    if isinstance(optimizer, TouchedRows) and hasattr(loss, "lookups"):
        lookups = loss.lookups(model, batch)
    index, state_index = touched_rows.indices(state.params, optimizer, state.opt_state, lookups)
    params, opt_state = touched_rows.take(state.params, index), touched_rows.take(state.opt_state, state_index)

    of_step = None if key is None else jax.random.fold_in(key, state.step)

    def objective(params):
        return loss(bind(model, params, lookups, of_step), batch)

    gradients, sums = jax.grad(objective, has_aux=True)(params)
    wide = _widen(params)
    updates, opt_state = optimizer.update(_widen(gradients), opt_state, wide)
    moved = jax.tree.map(lambda new, old: new.astype(old.dtype), optax.apply_updates(wide, updates), params)
    return TrainState(
        state.step + 1,
        touched_rows.put(state.params, moved, index),
        touched_rows.put(state.opt_state, opt_state, state_index),
    ), sums


def _widen(tree: Params) -> Params:
    """Returns the leaves as float32 where they are narrower: the optimizer's sums must not lose small terms."""
    return jax.tree.map(lambda leaf: leaf.astype(np.promote_types(leaf.dtype, np.float32)), tree)


def train_block(
    state: TrainState,
    block: Batch,
    loss: Loss,
    model: nnx.Module,
    optimizer: optax.GradientTransformation,
    key: Key[Array, ""] | None = None,
) -> tuple[TrainState, dict[str, Float[Array, "steps"]]]:
    """Returns the state after a step on each batch of the block in turn, and the loss's sums of each step.

    One batch of logits is held at a time.
    """

    def step(state, batch):
        return train_step(state, batch, loss, model, optimizer, key)

    return jax.lax.scan(step, state, block)


def fit(
    model: nnx.Module,
    examples: Examples,
    loss: Loss,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int,
    epochs: int,
    seed: int,
    state: TrainState | None = None,
    placement: str = "auto",
    negatives: Negatives | None = None,
) -> Iterator[tuple[TrainState, dict[str, float]]]:
    """Trains for `epochs` epochs and yields the state and the mean of each logged sum after each.

    An epoch is one call of a compiled program, or one for each block where it is streamed; batches are prepared in a
    background thread while the device computes what comes before. Given the same arguments, a run that continues
    from a yielded `state` yields the same as the run that went on; the placement changes no bit either.

    Args:
      model: the model whose parameters are trained.
      examples: the training examples, [n] a column; streamed ones may be memory-mapped.
      loss: what is minimised.
      optimizer: any optax optimizer.
      batch_size: examples a step; the last step of an epoch takes what is left.
      epochs: number of epochs from the beginning, those in `state` included.
      seed: of the order of the examples, and of what is random in the model.
      state: where to continue; None: at the model's own parameters.
      placement: "device": the batches of an epoch lie on the device. "stream": a few blocks of them do. "auto": the
        first if they fit, see `retrieval.batching.device.device_blocks`.
      negatives: what each batch holds beside its own positives, and how often; None: nothing.

    Raises:
      ValueError: `batch_size` exceeds the number of examples, or the placement is unknown.
      FloatingPointError: the loss or a parameter is no longer finite; states yielded before it are good.
    """
    num_examples = len(examples.query_rows)
    check_batch_size(batch_size, num_examples)
    check_placement(placement)
    state = create_state(model, optimizer) if state is None else state
    total = num_batches(num_examples, batch_size)
    left = range(int(state.step) // total, epochs)
    source = device_blocks(
        examples, batch_size=batch_size, epochs=left, seed=seed, placement=placement, negatives=negatives
    )
    return _epochs(model, loss, optimizer, jax.random.key(seed), state, source, left, total)


def _epochs(model, loss, optimizer, key, state, source, left, total):
    """Yields what `fit` does; a generator of its own, so that `fit` refuses its arguments before the first epoch."""
    given, model_of = take_apart(model)

    def run_block(state, loss, given, key, block):
        return train_block(state, block, loss, model_of(given), optimizer, key)

    run_block = jax.jit(run_block, donate_argnums=0)
    with contextlib.closing(source):
        for epoch in left:
            state = jax.tree.map(jnp.copy, state)  # blocks take over the memory of the state, but not of the caller's
            sums = _Sums(epoch, total)
            while sums.steps < total:
                block = next(source)
                sums.collect()
                state, of_block = run_block(state, loss, given, key, block)
                sums.add(of_block)
                del block
            sums.collect()
            sums.check_finite(state.params)
            yield state, sums.means()


class _Sums:
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


def means(sums: Mapping[str, OfReplicas]) -> dict[str, OfReplicas]:
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


def best_epoch(history: Sequence[float]) -> int:
    """Returns the index of the highest value, the first of equals; NaN never wins.

    >>> best_epoch([0.1, 0.3, float("nan"), 0.3])
    1
    """
    return int(np.argmax(np.nan_to_num(np.asarray(history, np.float64), nan=-np.inf)))


def should_stop(history: Sequence[float], patience: int) -> bool:
    """Tells whether the last `patience` values did not raise the best one before them; patience 0: never."""
    return 0 < patience < len(history) and len(history) - 1 - best_epoch(history) >= patience
