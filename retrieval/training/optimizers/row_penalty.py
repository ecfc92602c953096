"""Regularisation in the optimizer: frequency-scaled L2 of the rows of tables, and weight decay of matrices."""

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

ENTITIES_AT_A_TIME = 1 << 16  # bounds the memory of `table_counts`
Counts = dict[str, Float[np.ndarray, "_"]]  # path of a table in the model -> number of occurrences of each of its rows


class RowPenaltyState(NamedTuple):
    """State of `row_penalty`.

    Attributes:
      count: number of steps so far.
      rates: penalty a step of each row of a table [N]; a scalar 0 for each other parameter.
      last: step up to which the penalty of each row has been applied [N].
    """

    count: Int[Array, ""]
    rates: Any
    last: Any


def row_penalty(rates: Mapping[str, Float[np.ndarray, "_"]]) -> optax.GradientTransformation:
    """Returns a gradient transformation that adds the gradient of a lazy L2 penalty on the rows of tables.

    The penalty of row i is rates[i] * ||w_i||^2 a step. It is applied when the row has a gradient, at once for all s
    steps since the row last had one:

        g_i <- g_i + 2 * s * rates[i] * w_i

    A step therefore costs O(rows of the batch), and over an epoch the penalty of a row does not depend on how many
    batches hold it, as a positive or a negative. Rows that never have a gradient keep their values. Chain it before the
    optimizer; results with and without `TouchedRows` are equal.

    Args:
      rates: penalty a step of each row [N], by the path of the table in the model; other tables have no penalty.
    """

    def init(params):
        def leaf_rates(path, leaf):
            table = table_path(path)
            if table in rates:
                return jnp.asarray(rates[table], leaf.dtype)
            return jnp.zeros(leaf.shape[:1] if table is not None else (), leaf.dtype)

        all_rates = jax.tree_util.tree_map_with_path(leaf_rates, params)
        step_zero = jax.tree.map(lambda rate: jnp.zeros(rate.shape, jnp.int32), all_rates)
        return RowPenaltyState(jnp.zeros((), jnp.int32), all_rates, step_zero)

    def update(gradients, state, params):
        count = state.count + 1

        def rows_with_gradient(gradient, rate):
            return jnp.any(gradient != 0, axis=1) if rate.ndim else jnp.zeros((), bool)

        def penalised(gradient, param, is_due, rate, last):
            if not rate.ndim:
                return gradient
            due = jnp.where(is_due, rate * (count - last).astype(rate.dtype), 0)
            return gradient + 2 * due[:, None] * param

        is_due = jax.tree.map(rows_with_gradient, gradients, state.rates)
        gradients = jax.tree.map(penalised, gradients, params, is_due, state.rates, state.last)
        last = jax.tree.map(lambda is_due, last: jnp.where(is_due, count, last), is_due, state.last)
        return gradients, RowPenaltyState(count, state.rates, last)

    return optax.GradientTransformation(init, update)


def row_rates(
    counts: Counts, strengths: Mapping[str, float], *, power: float, steps_per_epoch: int
) -> dict[str, Float[np.ndarray, "_"]]:
    """Returns the rates of a frequency-scaled L2 penalty: over an epoch, strength * count ** power * ||w||^2 of a row.

    With power 1 the penalty of a row is proportional to its count, as with `Objective.embedding_l2`; with power 0 it is
    the same for all rows. Powers of 0.5 to 1 are the frequency-scaled regularisation of Rendle et al. 2021, "Revisiting
    the performance of iALS on item recommendation benchmarks". Rows without an occurrence have no penalty;
    neither has row 0, the unknown one.

    >>> counts = {"query_tower/embedding": np.array([0.0, 4.0, 9.0])}
    >>> row_rates(counts, {"query_tower": 0.5}, power=0.5, steps_per_epoch=10)["query_tower/embedding"].tolist()
    [0.0, 0.1, 0.15]

    Args:
      counts: number of occurrences of each row in an epoch, by the path of the table.
      strengths: strength by the prefix of the path of a table; the prefix "" fits all tables. The longest fitting
        prefix decides.
      power: exponent of the counts.
      steps_per_epoch: optimizer steps an epoch.

    Raises:
      ValueError: a prefix fits no table with counts.
    """
    rates = {}
    for prefix in strengths:
        if not any(path.startswith(prefix) for path in counts):
            raise ValueError(
                f"table_l2: no embedding table has a path that begins with {prefix!r}; there are "
                f"{', '.join(counts) or 'none'}"
            )
    for path, table_counts in counts.items():
        prefixes = [prefix for prefix in strengths if path.startswith(prefix)]
        if prefixes:
            strength = strengths[max(prefixes, key=len)]
            scaled = strength * np.maximum(table_counts, 1.0) ** power / steps_per_epoch
            rates[path] = np.where(table_counts > 0, scaled, 0.0)
            rates[path][UNKNOWN_ROW] = 0.0
    return rates


def table_counts(
    model: nnx.Module, query_counts: Num[np.ndarray, "Nq"], candidate_counts: Num[np.ndarray, "Nc"]
) -> Counts:
    """Returns the number of occurrences of each row of each table: the sum of the counts of the entities that read it.

    A query or candidate that reads a row twice, as a repeated tag, counts once. Row 0, which stands for unknown and
    missing values, has count 0. O(rows read) time.

    Args:
      model: its `rows_read` returns the rows that entities read, by table; tables not in it have no counts.
      query_counts: number of examples of each query row.
      candidate_counts: number of examples of each candidate row.
    """
    if not hasattr(model, "rows_read"):
        return {}
    no_rows = jnp.zeros(0, jnp.int32)
    num_rows = {path: len(leaf) for path, leaf in flatten_params(init(model)).items() if leaf.ndim}
    counts: Counts = {}
    for rows_read, entity_counts, are_queries in (
        (lambda rows: model.rows_read(rows, no_rows), query_counts, True),
        (lambda rows: model.rows_read(no_rows, rows), candidate_counts, False),
    ):
        for start in range(0, len(entity_counts), ENTITIES_AT_A_TIME):
            some_counts = entity_counts[start : start + ENTITIES_AT_A_TIME]
            for path, rows in rows_read(jnp.arange(start, start + len(some_counts), dtype=jnp.int32)).items():
                if path.startswith("query_tower/") != are_queries:
                    continue  # a table of the other tower, of which no row is read
                added = np.bincount(*_distinct_reads(np.asarray(rows), some_counts), num_rows[f"{path}/embedding"])
                counts[path] = counts[path] + added if path in counts else added
    for row_counts in counts.values():
        row_counts[UNKNOWN_ROW] = 0.0
    return counts


def _distinct_reads(
    rows: Int[np.ndarray, "n W"], entity_counts: Num[np.ndarray, "n"]
) -> tuple[Int[np.ndarray, "nW"], Num[np.ndarray, "nW"]]:
    """Returns the rows as a vector, each with the count of its entity, or 0 for a repeated row of the entity."""
    rows = np.sort(rows, axis=1)
    is_first = np.diff(rows, axis=1, prepend=-1) > 0
    return rows.ravel(), np.where(is_first, entity_counts[:, None], 0).ravel()


def decay_matrices(rate: float | Float[Array, ""]) -> optax.GradientTransformation:
    """Returns a transformation of updates that subtracts rate * matrix from the update of each matrix.

    Decoupled weight decay (Loshchilov and Hutter 2019, "Decoupled weight decay regularization"): chain it after the
    optimizer, with rate = learning rate * weight decay. Embedding tables have no decay, since their rows occur
    unequally often, see `row_penalty`; neither have biases, scales and other vectors.
    """

    def decayed(updates, params):
        def leaf_update(path, update, param):
            return update - rate * param if param.ndim > 1 and table_path(path) is None else update

        return jax.tree_util.tree_map_with_path(leaf_update, updates, params)

    return optax.stateless(decayed)
