"""The two-tower model."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from retrieval.models.binding import Lookups
from retrieval.models.embedding_table import EmbeddingTable, Fixed
from retrieval.models.heads import Head

Rows = Int[Array, "B"]
Embeddings = Float[Array, "B D"]
RowsRead = dict[str, Int[Array, "_ W"]]  # path of a table in the model -> the rows that each entity reads


# The query's share of the offset's dimension. Balanced with the candidate's share, norms stay alike, which a graph
# index of inner products needs: recall@10 on MovieLens-100K is 0.88 with 1 here, 1.00 with 4.
OFFSET_SCALE = 4.0

# Outputs shorter than this are not stretched to length 1. That of an unknown id, zero, stays zero and has a gradient
# of no more than the inverse.
LEAST_NORM = 0.01


class TwoTower(nnx.Module):
    """Scores a query and a candidate by the dot product of their towers' outputs.

    - With `log_prior` the score begins at the log-probability of the candidate's row, up to a constant. Towers whose
      output is near 0 then rank by popularity, the best that can be said of an unknown query, and training learns how
      each query departs from it. With `num_biases` a learned bias of the candidate's row is added too. Both are one
      dimension more of the embeddings, so that the score stays a dot product.
    - With `temperature` the outputs are of length 1, and the query's is divided by a learned temperature: their share
      of the score is the cosine over the temperature.

    `heads` predict what else is to be known of a query and a candidate, as its rating, from the towers' outputs.

    A query tower may read columns of the example besides the query's row: it names them in an attribute `context`, a
    tuple, and takes them as arguments of these names. Without it, equal rows have equal embeddings, and a batch's
    repeated queries are computed once. Columns that either tower names in `table_columns` are handed on where they are
    there: features that count in place of those that the tower holds, see `FeatureTower`.
    """

    def __init__(
        self,
        query_tower: Callable[[Rows], Embeddings],
        candidate_tower: Callable[[Rows], Embeddings],
        log_prior: Float[Array, "N"] | np.ndarray | None = None,
        *,
        num_biases: int = 0,
        temperature: float | None = None,
        heads: Mapping[str, Head] = types.MappingProxyType({}),
    ):
        """Creates the model of two towers.

        Args:
          query_tower: query rows [B] -> embeddings [B, D].
          candidate_tower: candidate rows [B] -> embeddings [B, D].
          log_prior: log-probability of each candidate row; None: 0.
          num_biases: number of candidate rows, each with a learned bias that starts at 0; 0: no biases.
          temperature: where the learned temperature starts; None: the outputs are taken as they are.
          heads: what is predicted of pairs besides their scores, by name.

        Raises:
          ValueError: the temperature is not positive.
        """
        if temperature is not None and not temperature > 0:
            raise ValueError(f"temperature must be positive, got {temperature}")
        self.query_tower = query_tower
        self.candidate_tower = candidate_tower
        self.log_prior = None if log_prior is None else Fixed(jnp.asarray(log_prior))
        zeros = {"initializer": nnx.initializers.zeros_init(), "rngs": nnx.Rngs(0)}
        self.candidate_bias = EmbeddingTable(num_biases, 1, **zeros) if num_biases else None
        self.log_temperature = None if temperature is None else nnx.Param(jnp.log(jnp.float32(temperature)))
        self.heads = nnx.Dict(dict(heads))

    @property
    def context(self) -> tuple[str, ...]:
        """Names of the columns that the query tower reads besides the row."""
        return getattr(self.query_tower, "context", ())

    def query(self, rows: Rows, context: Mapping[str, Array] = types.MappingProxyType({})) -> Embeddings:
        """Returns the embeddings of query rows, in the context of the columns that the tower reads [B, ...] each."""
        return self.query_of(self.query_tower(rows, **_read(self.query_tower, context)))

    @property
    def reads_windows(self) -> bool:
        """Whether the query tower has an output at each position of a window, see `HistoryTower`."""
        return hasattr(self.query_tower, "positions")

    def query_at(self, places: Int[Array, "B"], rows: Int[Array, "S"], context: Mapping[str, Array]) -> Embeddings:
        """Returns the embeddings of the queries at some of the S * L positions of windows."""
        outputs = self.query_tower.positions(rows, **{name: context[name] for name in self.context})
        return self.query_of(outputs.reshape(-1, outputs.shape[-1])[places])

    def candidate(self, rows: Rows, context: Mapping[str, Array] = types.MappingProxyType({})) -> Embeddings:
        """Returns the embeddings of candidate rows; features in the columns of `context` replace those of the table."""
        return self.candidate_of(self.candidate_tower(rows, **_read(self.candidate_tower, context)), rows)

    def query_of(self, outputs: Float[Array, "*B D"]) -> Float[Array, "*B E"]:
        """Returns the embeddings of queries from what the query tower makes of them."""
        if self.log_temperature is not None:
            outputs = _unit(outputs) * jnp.exp(-self.log_temperature[...]).astype(outputs.dtype)
        return _append(outputs, jnp.full_like(outputs[..., 0], OFFSET_SCALE)) if self._has_offset else outputs

    def candidate_of(self, outputs: Embeddings, rows: Rows) -> Float[Array, "B E"]:
        """Returns the embeddings of candidates from what the candidate tower makes of them, and their rows."""
        if self.log_temperature is not None:
            outputs = _unit(outputs)
        return _append(outputs, self._offset(rows) / OFFSET_SCALE) if self._has_offset else outputs

    def head_outputs(self, queries: Embeddings, candidates: Embeddings) -> dict[str, Float[Array, "B"]]:
        """Returns the outputs of all heads for pairs of embeddings, as `query` and `candidate` return them.

        Heads see the towers' outputs alone: without the dimension of the offset, and before the temperature, which
        belongs to the scores.
        """
        if self._has_offset:
            queries, candidates = queries[:, :-1], candidates[:, :-1]
        if self.log_temperature is not None:
            queries = queries * jnp.exp(self.log_temperature[...]).astype(queries.dtype)
        return {name: self.heads[name](queries, candidates) for name in self.heads}

    def predict(self, queries: Embeddings, candidates: Embeddings) -> dict[str, Float[Array, "B"]]:
        """Returns what the heads expect of pairs of embeddings: numbers in their own units, and probabilities."""
        outputs = self.head_outputs(queries, candidates)
        return {name: self.heads[name].expected(of_head) for name, of_head in outputs.items()}

    @property
    def _has_offset(self) -> bool:
        return self.log_prior is not None or self.candidate_bias is not None

    def _offset(self, rows: Rows) -> Float[Array, "B"]:
        """Returns what is added to the scores of candidate rows."""
        offset = 0.0 if self.log_prior is None else self.log_prior[rows]
        return offset if self.candidate_bias is None else offset + self.candidate_bias(rows)[:, 0]

    def lookups(self, query_rows: Int[Array, "U"], candidate_rows: Int[Array, "V"]) -> Lookups:
        """Returns which rows of which tables a batch of these rows looks up, by the tables' paths in the model.

        Towers that do not tell (see `IdTower.lookups`) are left out, and so are tables that both towers hold.
        """
        biases = {} if self.candidate_bias is None else {"candidate_bias": candidate_rows}
        return self._of_tables("lookups", query_rows, candidate_rows) | biases

    def rows_read(self, query_rows: Int[Array, "U"], candidate_rows: Int[Array, "V"]) -> RowsRead:
        """Returns which rows of which tables each of these queries and candidates reads, padded with 0.

        Unlike `lookups` it tells of every table, however small, and by the entity: [U, _] of tables of the query tower
        and [V, _] of others. Towers that do not tell are left out, and so are tables that both towers hold.
        """
        biases = {} if self.candidate_bias is None else {"candidate_bias": candidate_rows[:, None]}
        return self._of_tables("rows_read", query_rows, candidate_rows) | biases

    def _of_tables(self, method, query_rows, candidate_rows):
        """Returns what this method of the towers tells, by the tables' paths in the model, without those of both."""
        found, paths = {}, {}
        for side, rows in (("query_tower", query_rows), ("candidate_tower", candidate_rows)):
            tower = getattr(self, side)
            of_tower = getattr(tower, method)(rows) if hasattr(tower, method) else {}
            found |= {f"{side}/{name}": rows for name, rows in of_tower.items()}
            for path, module in nnx.iter_modules(tower):
                paths.setdefault(id(module), []).append("/".join([side, *map(str, path)]))
        shared = {path for of_module in paths.values() if len(of_module) > 1 for path in of_module}
        return {path: rows for path, rows in found.items() if path not in shared}

    def squared_norms(self, embeddings: Embeddings) -> Float[Array, "B"]:
        """Returns the squared norm of the tower's output in each embedding, without the dimension of the offset.

        It is 1 where there is a temperature, which the penalty on norms so leaves alone.
        """
        outputs = embeddings[:, :-1] if self._has_offset else embeddings
        outputs = outputs.astype(np.promote_types(outputs.dtype, np.float32))
        return jnp.ones_like(outputs[:, 0]) if self.log_temperature is not None else jnp.sum(outputs**2, axis=1)


def _read(tower: Callable, context: Mapping[str, Array]) -> dict[str, Array]:
    """Returns the columns that a tower needs, and of those that it can do without the ones that are there."""
    columns = {name: context[name] for name in getattr(tower, "context", ())}
    return columns | {name: context[name] for name in getattr(tower, "table_columns", ()) if name in context}


def _append(outputs: Float[Array, "*B D"], column: Float[Array, "*B"]) -> Float[Array, "*B D+1"]:
    return jnp.concatenate([outputs, column[..., None].astype(outputs.dtype)], axis=-1)


def _unit(outputs: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """Returns the vectors at length 1, but for those shorter than `LEAST_NORM`, which are divided by it."""
    wide = outputs.astype(np.promote_types(outputs.dtype, np.float32))
    squares = jnp.maximum(jnp.sum(wide**2, axis=-1, keepdims=True), LEAST_NORM**2)
    return (wide * jax.lax.rsqrt(squares)).astype(outputs.dtype)
