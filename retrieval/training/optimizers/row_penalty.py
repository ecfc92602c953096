"""Regularisation of parameters as part of the optimizer: a penalty on the rows of tables, and decay of matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Num

from retrieval.data.vocabulary import UNKNOWN_ROW
from retrieval.models.binding import flatten_params, init
from retrieval.models.embedding_table import table_path

ENTITIES_AT_A_TIME = 1 << 16  # whose look-ups are counted at once
Counts = dict[str, Float[np.ndarray, "_"]]  # path of a table in the model -> how often each of its rows occurs


class RowPenaltyState(NamedTuple):
    """The state of `row_penalty`.

    Attributes:
      count: steps taken.
      rates: penalty a step of each row of a table [N]; a zero for each other parameter.
      last: the step as far as which each row's penalty is paid [N].
    """

    count: Int[Array, ""]
    rates: Any
    last: Any


def row_penalty(rates: Mapping[str, Float[np.ndarray, "_"]]) -> optax.GradientTransformation:
    """Returns what adds to gradients those of a penalty on the rows of tables, rate times squared norm a step.

    A row pays when it has a gradient, for all steps since it last had one: a step costs the rows of its batch, and over
    an epoch each row pays alike however often batches hold it, as positive or negative. Rows that never have a gradient
    keep their values. Put it before the optimizer's own rule; with `TouchedRows` and without, the results are the same.

    Args:
      rates: of tables by their paths in the model, [N] for N rows; others have none.
    """

    def init(params):
        def rates_of(path, leaf):
            table = table_path(path)
            if table in rates:
                return jnp.asarray(rates[table], leaf.dtype)
            return jnp.zeros(leaf.shape[:1] if table is not None else (), leaf.dtype)

        of_params = jax.tree_util.tree_map_with_path(rates_of, params)
        never = jax.tree.map(lambda rate: jnp.zeros(rate.shape, jnp.int32), of_params)
        return RowPenaltyState(jnp.zeros((), jnp.int32), of_params, never)

    def update(gradients, state, params):
        count = state.count + 1

        def pays(gradient, rate):
            return jnp.any(gradient != 0, axis=1) if rate.ndim else jnp.zeros((), bool)

        def penalised(gradient, param, pays, rate, last):
            if not rate.ndim:
                return gradient
            due = jnp.where(pays, rate * (count - last).astype(rate.dtype), 0)
            return gradient + 2 * due[:, None] * param

        paying = jax.tree.map(pays, gradients, state.rates)
        gradients = jax.tree.map(penalised, gradients, params, paying, state.rates, state.last)
        last = jax.tree.map(lambda pays, last: jnp.where(pays, count, last), paying, state.last)
        return gradients, RowPenaltyState(count, state.rates, last)

    return optax.GradientTransformation(init, update)


def row_rates(
    counts: Counts, strengths: Mapping[str, float], *, power: float, steps_per_epoch: int
) -> dict[str, Float[np.ndarray, "_"]]:
    """Returns the rates of a penalty of strength * count ** power on the squared norm of a row over an epoch.

    With power 1 a row counts as often as it occurs, as in `InBatchSoftmax.embedding_l2`; with power 0 each counts
    once. Powers between, about 0.5 to 1, are the frequency-scaled regularisation of Rendle et al. 2021, "Revisiting the
    performance of iALS on item recommendation benchmarks". Rows that do not occur have none, nor has row 0, which
    stands for what is unknown.

    >>> counts = {"query_tower/embedding": np.array([0.0, 4.0, 9.0])}
    >>> row_rates(counts, {"query_tower": 0.5}, power=0.5, steps_per_epoch=10)["query_tower/embedding"].tolist()
    [0.0, 0.1, 0.15]

    Args:
      counts: how often each row of the tables occurs in an epoch.
      strengths: by how the path of a table begins; "": of all. The longest that fits counts.
      power: of the counts.
      steps_per_epoch: optimizer steps an epoch.

    Raises:
      ValueError: a strength fits no table whose rows are counted.
    """
    rates = {}
    for beginning in strengths:
        if not any(path.startswith(beginning) for path in counts):
            raise ValueError(
                f"no table that tells its rows begins with {beginning!r}; there are {', '.join(counts) or 'none'}"
            )
    for path, times in counts.items():
        fitting = [beginning for beginning in strengths if path.startswith(beginning)]
        if fitting:
            strength = strengths[max(fitting, key=len)]
            of_rows = np.where(times > 0, strength * np.maximum(times, 1.0) ** power / steps_per_epoch, 0.0)
            of_rows[UNKNOWN_ROW] = 0.0
            rates[path] = of_rows
    return rates


def table_counts(
    model: nnx.Module, query_counts: Num[np.ndarray, "Nq"], candidate_counts: Num[np.ndarray, "Nc"]
) -> Counts:
    """Returns how often the rows of each table occur in examples: as often as the entities that read them.

    Row 0, which stands for what is unknown or missing, counts 0, and a row that an entity reads twice counts once.
    O(rows read) time.

    Args:
      model: tells by `rows_read` which rows an entity reads; tables that it does not tell of are left out.
      query_counts: how often each query row occurs in the examples.
      candidate_counts: how often each candidate row does.
    """
    if not hasattr(model, "rows_read"):
        return {}
    nobody = jnp.zeros(0, jnp.int32)
    num_rows = {path: len(leaf) for path, leaf in flatten_params(init(model)).items() if leaf.ndim}
    counts: Counts = {}
    for rows_of, of_entities, of_queries in (
        (lambda rows: model.rows_read(rows, nobody), query_counts, True),
        (lambda rows: model.rows_read(nobody, rows), candidate_counts, False),
    ):
        for start in range(0, len(of_entities), ENTITIES_AT_A_TIME):
            times = of_entities[start : start + ENTITIES_AT_A_TIME]
            for path, rows in rows_of(jnp.arange(start, start + len(times), dtype=jnp.int32)).items():
                if path.startswith("query_tower/") != of_queries:
                    continue  # what nobody reads
                added = np.bincount(*_once(np.asarray(rows), times), num_rows[f"{path}/embedding"])
                counts[path] = counts[path] + added if path in counts else added
    for of_rows in counts.values():
        of_rows[UNKNOWN_ROW] = 0.0
    return counts


def _once(rows: Int[np.ndarray, "n W"], times: Num[np.ndarray, "n"]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows in a line, with the times of their entity, or 0 where it has read the same before."""
    rows = np.sort(rows, axis=1)
    is_first = np.diff(rows, axis=1, prepend=-1) > 0
    return rows.ravel(), np.where(is_first, times[:, None], 0).ravel()


def decay_matrices(rate: float | Float[Array, ""]) -> optax.GradientTransformation:
    """Returns what takes a share of each matrix from it in every step, beside the update that the gradient makes.

    Embedding tables, whose rows occur unequally often, are left to `row_penalty`; biases, scales and other vectors are
    left alone. Put it behind the optimizer's own rule, with rate = learning rate * weight decay (Loshchilov and Hutter
    2019, "Decoupled weight decay regularization").
    """

    def decayed(updates, params):
        def of(path, update, param):
            return update - rate * param if param.ndim > 1 and table_path(path) is None else update

        return jax.tree_util.tree_map_with_path(of, updates, params)

    return optax.stateless(decayed)
