"""The part of parameters and optimizer state that a batch touches: taken out, updated, and put back in place."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from retrieval.models.binding import Lookups, Params
from retrieval.models.embedding_table import table_path, without_padding

WHOLE = ...  # the index of what is no table: leaf[...] is all of it
Index = Any  # a tree like that which it indexes: rows of each table, WHOLE for other leaves


def indices(
    params: Params, optimizer: optax.GradientTransformation, opt_state: optax.OptState, lookups: Lookups
) -> tuple[Index, Index]:
    """Returns what of `params` and of `opt_state` a batch touches: all but the tables' other rows.

    Padding becomes rows behind the end of a table, which `put` drops.
    """

    def index(path, leaf):
        rows = lookups.get(table_path(path))
        if rows is None:
            return WHOLE
        return without_padding(rows, len(leaf) + jnp.arange(len(rows)))

    of_params = jax.tree_util.tree_map_with_path(index, params)
    of_state = optax.tree_utils.tree_map_params(
        optimizer,
        lambda leaf, rows: rows if jnp.ndim(leaf) else WHOLE,  # a rule may keep one number for a table
        opt_state,
        of_params,
        transform_non_params=lambda _: WHOLE,
    )
    return of_params, of_state


def take(tree: Any, index: Index) -> Any:
    """Returns the indexed part of each leaf."""
    return jax.tree.map(lambda leaf, rows: leaf if rows is WHOLE else leaf.at[rows].get(mode="clip"), tree, index)


def put(tree: Any, part: Any, index: Index) -> Any:
    """Returns the tree with `part` in place of what `take` returned; XLA updates the tables in place."""

    def replaced(leaf, new, rows):
        if rows is WHOLE:
            return new
        return leaf.at[rows].set(new, mode="drop", unique_indices=True, indices_are_sorted=True)

    return jax.tree.map(replaced, tree, part, index)
