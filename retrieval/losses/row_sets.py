"""Sets of candidate rows on the device, such as the known positives of each query."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from retrieval.common.lists import Lists


class RowSets(NamedTuple):
    """One set of candidate rows for each query, in the CSR format on the device.

    Attributes:
      rows: rows of all sets, one set after the other, ascending in each, and a last entry of no set [n + 1].
      starts: index in `rows` of the start of each set [U].
      ends: index in `rows` of the end of each set, exclusive [U].
    """

    rows: Int[Array, "_"]
    starts: Int[Array, "U"]
    ends: Int[Array, "U"]

    @classmethod
    def from_lists(cls, lists: Lists) -> RowSets:
        """Returns the lists as sets, without repeats.

        >>> RowSets.from_lists(Lists.from_sequences([[5, 2], [], [1]])).rows.tolist()[:3]
        [2, 5, 1]
        """
        sets = lists.sets()
        offsets = sets.offsets.astype(np.int32)
        return cls(*map(jnp.asarray, (np.append(sets.rows, np.int32(-1)), offsets[:-1], offsets[1:])))

    def take(self, queries: Int[Array, "U2"]) -> RowSets:
        """Returns the sets of the queries with these indices; O(U2) time, since rows are not copied."""
        return self._replace(starts=self.starts[queries], ends=self.ends[queries])

    def contain(self, queries: Int[Array, "*#S"], rows: Int[Array, "*#S"]) -> Bool[Array, "*S"]:
        """Returns whether rows are in the sets of queries, by binary search: O(log s) time each, s the largest set.

        >>> sets = RowSets.from_lists(Lists.from_sequences([[5, 2], [], [1]]))
        >>> sets.contain(jnp.array([0, 0, 1, 2]), jnp.array([5, 1, 1, 1])).tolist()
        [True, False, False, True]
        """
        shape = jnp.broadcast_shapes(queries.shape, rows.shape)
        first, ends = (jnp.broadcast_to(bounds[queries], shape) for bounds in (self.starts, self.ends))

        def narrow(bounds):  # invariant: the first index whose row is not smaller is in [low, high]
            low, high = bounds
            middle = (low + high) // 2
            smaller, is_open = self.rows[middle] < rows, low < high
            return jnp.where(is_open & smaller, middle + 1, low), jnp.where(is_open & ~smaller, middle, high)

        indices, _ = jax.lax.while_loop(lambda bounds: jnp.any(bounds[0] < bounds[1]), narrow, (first, ends))
        return (indices < ends) & (self.rows[indices] == rows)


class KnownPositives(NamedTuple):
    """Known positives of the distinct queries of a batch, among its distinct candidates.

    Attributes:
      positives: candidate rows of each query's positives, U sets.
      rows: row of each candidate [V].
    """

    positives: RowSets
    rows: Int[Array, "V"]

    @property
    def table(self) -> Bool[Array, "U V"]:
        """Whether each candidate is a positive of each query."""
        queries = jnp.arange(len(self.positives.starts))[:, None]
        return self.positives.contain(queries, self.rows[None, :])
