"""A tower over any number of features: features of entities are held by the model, others come with the example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int, Shaped

from retrieval.common.choices import check_choice
from retrieval.data.vocabulary import UNKNOWN_ROW
from retrieval.features.encoded import TABLE, Encoded
from retrieval.models.embedding_table import Fixed
from retrieval.models.feature_embeddings import Dense, Lookup
from retrieval.models.feature_inputs import ID, FeatureInput, check_inputs, column_names, context_columns, read_columns
from retrieval.models.layers import MLP, CrossLayers, Dropout

COMBINATIONS = ("sum", "concat")

# A table gets lazy (touched-row) updates if it has at least this many rows for each row that a batch looks up. Measured
# on two cores with 32 dimensions: an update of 28,000 looked-up rows takes 14 ms a step, a dense one of 100,000 8 ms.
ROWS_A_LOOKUP = 8


class Entities(nnx.Module):
    """An encoded feature of every entity; not trained."""

    def __init__(self, encoded: Encoded):
        """Holds the arrays of a feature; weights only if one of them is not 1."""
        weights = encoded.weights
        self.rows = _fixed(encoded.rows)
        self.weights = None if weights is None or np.all(weights == 1) else _fixed(weights)
        self.values = _fixed(encoded.values)

    def __call__(self, rows: Int[Array, "B"]) -> Encoded:
        """Returns the feature of these entities."""
        return Encoded(*(None if part is None else part[...][rows] for part in (self.rows, self.weights, self.values)))


class FeatureTower(nnx.Module):
    """Combines the embeddings of features, then applies cross layers and an MLP.

    Entities are queries or candidates. Their table has `num_entities` rows: row 0 for unknown entities, then the
    entities known in train, then any number of others. The others (cold-start entities) have features and no embedding
    of their own: their "id" reads row 0. Only dropout of "id" trains that row; without dropout it stays at zero.

    The embeddings are added ("sum") or concatenated ("concat"). A sum without hidden sizes has no MLP. The feature "id"
    alone, summed, computes what an `IdTower` does.

    Attributes:
      names: names of all features in order.
      context: names of the example's columns that the tower reads.
      table_columns: names of the columns that may replace features of the table, see `__call__`.
    """

    def __init__(
        self,
        features: Mapping[str, FeatureInput],
        *,
        num_entities: int,
        dimension: int,
        combine: str = "sum",
        hidden_sizes: Sequence[int] = (),
        dropout: float = 0.0,
        cross_layers: int = 0,
        cross_rank: int = 0,
        output_dropout: float = 0.0,
        initial_scale: float,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ):
        """Creates the tower.

        Args:
          features: features by name, in the order of the concatenation.
          num_entities: rows of the entity table, the unknown row included.
          dimension: D, size of the output.
          combine: "sum" or "concat".
          hidden_sizes: sizes of the MLP's hidden layers; an output layer of size D follows them.
          dropout: dropout rate of the hidden layers; whole features are dropped by `FeatureInput.dropout`.
          cross_layers: number of cross layers; see `CrossLayers`.
          cross_rank: rank of the cross layers' matrices; 0: full.
          output_dropout: dropout rate of the tower's output.
          initial_scale: standard deviation of the features' initial parameters, cut at two of them.
          dtype: type of the parameters and of the output; products of matrices are accumulated in float32.
          rngs: random streams of the initial values.

        Raises:
          ValueError: there is no feature, an option is unknown, a feature does not have `num_entities` rows, or a
            feature with a dimension of its own is to be added to others.
        """
        check_choice("combine", combine, COMBINATIONS)
        check_inputs(features, num_entities, dimension if combine == "sum" else 0)
        common = {"dtype": dtype, "rngs": rngs}
        self.names = tuple(features)  # the order of the concatenation; `bind` sorts the entries of a Dict
        self.context = tuple(column for name in features for column in context_columns(name, features[name]))
        stored = {name: feature for name, feature in features.items() if feature.encoded is not None}
        self.table_columns = tuple(
            column for name, feature in stored.items() for column in column_names(TABLE + name, feature.spec)
        )
        self.combine = combine
        self.all_known = ID not in features or features[ID].spec.num_rows == num_entities
        self.features = nnx.Dict(
            {
                name: _module(feature, dimension, initial_scale=initial_scale, **common)
                for name, feature in features.items()
            }
        )
        self.entities = nnx.Dict({name: Entities(feature.encoded) for name, feature in stored.items()})
        width = dimension if combine == "sum" else sum(feature.dimension or dimension for feature in features.values())
        sizes = (width, *hidden_sizes, dimension) if hidden_sizes or combine == "concat" else ()
        self.cross = CrossLayers(width, cross_layers, cross_rank, **common) if cross_layers else None
        self.mlp = MLP(sizes, dropout=dropout, **common) if sizes else None
        self.output_dropout = Dropout(output_dropout)

    def __call__(self, rows: Int[Array, "B"], **context: Shaped[Array, "B ..."]) -> Float[Array, "B D"]:
        """Returns the embeddings of entity rows, given the columns that the attribute `context` names.

        Columns named in `table_columns` may be given too. They hold features of the table, as those of an entity that
        is not in it; features without such columns are read by row.

        Raises:
          ValueError: a column is missing or unknown.
        """
        # A column without a reader would be a mistake that no one sees.
        if not set(self.context) <= set(context) <= {*self.context, *self.table_columns}:
            raise ValueError(f"the tower reads the columns {sorted(self.context)}, received {sorted(context)}")
        found = {
            name: read_columns(TABLE + name, context) if TABLE + name in context else self.entities[name](rows)
            for name in self.entities
        }
        found |= {name: read_columns(name, context) for name in self.names if name in self.context}
        return self.embed(found, self._known(rows) if ID in self.names else None)

    def embed(self, features: Mapping[str, Encoded], ids: Int[Array, "B"] | None = None) -> Float[Array, "B D"]:
        """Returns the embeddings of entities that need not be in the table, from their encoded features.

        Args:
          features: all features of the tower except "id".
          ids: row of each entity in the table of ids, 0 if unknown; None: all are unknown.

        Raises:
          ValueError: a feature is missing or unknown.
        """
        expected = [name for name in self.names if name != ID]
        if set(features) != set(expected):
            raise ValueError(f"the tower has the features {expected} beside its ids, received {sorted(features)}")
        if ids is None and ID in self.names:
            if not expected:
                raise ValueError("a tower of ids alone needs `ids`, received none")
            first = features[expected[0]]
            size = (first.values if first.rows is None else first.rows).shape[0]
            ids = jnp.full(size, UNKNOWN_ROW, jnp.int32)
        outputs = [
            self.features[name].of_rows(ids) if name == ID else _applied(self.features[name], features[name])
            for name in self.names
        ]
        x = sum(outputs[1:], outputs[0]) if self.combine == "sum" else jnp.concatenate(outputs, axis=-1)
        x = x if self.cross is None else self.cross(x)
        return self.output_dropout(x if self.mlp is None else self.mlp(x))

    def lookups(self, rows: Int[Array, "U"]) -> dict[str, Int[Array, "_"]]:
        """Returns the distinct rows of each table that a call with `rows` looks up, by the table's path in the tower.

        Left out are tables whose rows come with the example, and tables so small that a dense update is faster. Row 0
        is included if the feature may be missing. O(U W log(U W)) time.

        Args:
          rows: distinct, ascending entity rows, padded at the end with 0.
        """
        found = {}
        for path, looked_up in self.rows_read(rows).items():
            name = path.removeprefix("features/").removesuffix("/table")
            # Rows of entities are rows of the ids then, distinct and ascending already.
            if name == ID and self.all_known and not self.features[ID].dropout.rate:
                found[path] = rows
                continue
            number = looked_up.size + 1  # static under jit: no more distinct rows than this, row 0 included
            if number * ROWS_A_LOOKUP <= self.features[name].num_rows:
                looked_up = jnp.append(looked_up.ravel(), jnp.int32(UNKNOWN_ROW))
                found[path] = jnp.unique(looked_up, size=number, fill_value=UNKNOWN_ROW)
        return found

    def rows_read(self, rows: Int[Array, "U"]) -> dict[str, Int[Array, "U _"]]:
        """Returns the rows of each table that every entity reads, padded with 0, by the table's path in the tower.

        Tables whose rows come with the example are left out.

        Args:
          rows: entity rows.
        """
        found = {}
        for name in self.names:
            if name == ID:
                found[f"features/{ID}/table"] = self._known(rows)[:, None]
            elif name not in self.context and isinstance(self.features[name], Lookup):
                found[f"features/{name}/table"] = self.entities[name](rows).rows
        return found

    def _known(self, rows: Int[Array, "B"]) -> Int[Array, "B"]:
        """Returns the rows, with row 0 in place of entities that train does not know."""
        return rows if self.all_known else jnp.where(rows < self.features[ID].num_rows, rows, UNKNOWN_ROW)


def _module(feature: FeatureInput, dimension: int, **common) -> Lookup | Dense:
    spec, dimension = feature.spec, feature.dimension or dimension
    if not spec.num_rows:
        return Dense(spec.size, dimension, dropout=feature.dropout, **common)
    return Lookup(spec.num_rows, dimension, combiner=spec.combiner, dropout=feature.dropout, **common)


def _fixed(array: Shaped[np.ndarray, "n ..."] | None) -> Fixed | None:
    return None if array is None else Fixed(jnp.asarray(array))


def _applied(module: Lookup | Dense, encoded: Encoded) -> Float[Array, "B D"]:
    return module(encoded.values) if encoded.rows is None else module(encoded.rows, encoded.weights)
