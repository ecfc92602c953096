"""Touched-row updates: takes the rows that a batch looks up out of parameters and optimizer state, and puts them back.

For a table of N rows of D dimensions a dense update reads and writes O(N D) numbers, a touched-row update O(R D) for
the R rows that the batch looks up.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from retrieval.models.binding import Lookups, Params
from retrieval.models.embedding_table import table_path, without_padding

WHOLE = ...  # index of a leaf that is no table: leaf[...] is the whole leaf
Index = Any  # a tree of the structure of the indexed one: rows of each table, WHOLE for other leaves


def indices(
    params: Params, optimizer: optax.GradientTransformation, opt_state: optax.OptState, lookups: Lookups
) -> tuple[Index, Index]:
    """Returns the indices of `params` and of `opt_state` that a batch touches: the looked-up rows of tables, all else.

    Args:
      params: the parameters.
      optimizer: the optimizer that created `opt_state`, which tells the leaves of its state that mirror parameters.
      opt_state: the state of the optimizer.
      lookups: looked-up rows of tables by the path of the table, ascending, padded; tables not in it are taken whole.
    """

    def index(path, leaf):
        rows = lookups.get(table_path(path))
        if rows is None:
            return WHOLE
        # padding becomes distinct rows beyond the end of the table, which `put` drops: the indices stay unique and
        # ascending, which spares XLA a sort and atomics in the scatter
        return without_padding(rows, len(leaf) + jnp.arange(len(rows)))

    params_index = jax.tree_util.tree_map_with_path(index, params)
    state_index = optax.tree_utils.tree_map_params(
        optimizer,
        lambda leaf, rows: rows if jnp.ndim(leaf) else WHOLE,  # an optimizer may keep one number for a table
        opt_state,
        params_index,
        transform_non_params=lambda _: WHOLE,
    )
    return params_index, state_index


def take(tree: Any, index: Index) -> Any:
    """Returns the indexed rows of each leaf, [R, ...] for R rows; padding repeats the last row of the table."""
    return jax.tree.map(lambda leaf, rows: leaf if rows is WHOLE else leaf.at[rows].get(mode="clip"), tree, index)


def put(tree: Any, part: Any, index: Index) -> Any:
    """Returns the tree with the rows of `part` at the index; XLA updates donated tables in place."""

    def replaced(leaf, new, rows):
        if rows is WHOLE:
            return new
        return leaf.at[rows].set(new, mode="drop", unique_indices=True, indices_are_sorted=True)

    return jax.tree.map(replaced, tree, part, index)
