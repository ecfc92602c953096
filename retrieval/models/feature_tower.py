"""A tower over any number of features: those of an entity are part of the model, others come with the example."""

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
from retrieval.models.layers import MLP, Cross, Dropout

COMBINATIONS = ("sum", "concat")

# A table is updated by the rows of a batch where it has so many times as many. Measured on two cores, 32 dimensions: 28
# thousand rows looked up cost 14 ms a step, a dense update of 100 thousand 8 ms.
ROWS_A_LOOKUP = 8


class Entities(nnx.Module):
    """A feature of every entity, as it is encoded: given, not trained."""

    def __init__(self, encoded: Encoded):
        """Holds the arrays of a feature; weights only where one is not 1."""
        weights = encoded.weights
        self.rows = _fixed(encoded.rows)
        self.weights = None if weights is None or np.all(weights == 1) else _fixed(weights)
        self.values = _fixed(encoded.values)

    def __call__(self, rows: Int[Array, "B"]) -> Encoded:
        """Returns the feature of these entities."""
        return Encoded(*(None if of is None else of[...][rows] for of in (self.rows, self.weights, self.values)))


class FeatureTower(nnx.Module):
    """Embeddings of features, put together, and cross layers and an MLP over them.

    Entities are queries or candidates. Their table has `num_entities` rows: row 0 for unknown ones, then those that
    train knows, then any number of others, which have features and no embedding of their own: their "id" is that of
    row 0. Only dropout of "id" trains that row; without it, it stays at zero.

    The embeddings of features are added ("sum"), or stand side by side ("concat"). Then come cross layers and an MLP;
    a sum without hidden sizes has no MLP. The feature "id" alone, summed, is an `IdTower`.
    """

    def __init__(
        self,
        features: Mapping[str, FeatureInput],
        *,
        num_entities: int,
        dimension: int,
        combine: str = "sum",
        hidden_sizes: Sequence[int] = (),
        normalization: str = "",
        residual: bool = False,
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
          features: by name; their order is that of the concatenation.
          num_entities: rows of the entity table, the unknown one included.
          dimension: D, of the output.
          combine: "sum" or "concat".
          hidden_sizes: sizes of the MLP's hidden layers; an output layer of size D follows them.
          normalization: see `MLP`, as for `residual` and `dropout`.
          residual: likewise.
          dropout: likewise; that of whole features is their own.
          cross_layers: number of cross layers; see `Cross`.
          cross_rank: their rank; 0: full.
          output_dropout: of the tower's output, value by value.
          initial_scale: standard deviation of the features' initial parameters, cut at two of them.
          dtype: type of the parameters and of the output; products of matrices are accumulated in float32.
          rngs: random streams of the initial values.

        Raises:
          ValueError: no feature, an option that does not exist, a feature that is not of `num_entities` rows, or one
            with a dimension of its own that is to be added to others.
        """
        check_choice("combine", combine, COMBINATIONS)
        check_inputs(features, num_entities, dimension if combine == "sum" else 0)
        common = {"dtype": dtype, "rngs": rngs}
        self.names = tuple(features)  # of all features in order: `bind` sorts those of a Dict
        self.context = tuple(column for name in features for column in context_columns(name, features[name]))
        stored = {name: of for name, of in features.items() if of.encoded is not None}
        self.table_columns = tuple(
            column for name, of in stored.items() for column in column_names(TABLE + name, of.spec)
        )
        self.combine = combine
        self.all_known = ID not in features or features[ID].spec.num_rows == num_entities
        self.features = nnx.Dict(
            {name: _module(of, dimension, initial_scale=initial_scale, **common) for name, of in features.items()}
        )
        self.entities = nnx.Dict({name: Entities(feature.encoded) for name, feature in stored.items()})
        width = dimension if combine == "sum" else sum(of.dimension or dimension for of in features.values())
        sizes = (width, *hidden_sizes, dimension) if hidden_sizes or combine == "concat" else ()
        of_hidden = {"normalization": normalization, "residual": residual, "dropout": dropout}
        self.cross = Cross(width, cross_layers, cross_rank, **common) if cross_layers else None
        self.mlp = MLP(sizes, **of_hidden, **common) if sizes else None
        self.output_dropout = Dropout(output_dropout)

    def __call__(self, rows: Int[Array, "B"], **context: Shaped[Array, "B ..."]) -> Float[Array, "B D"]:
        """Returns the embeddings of entity rows, in the context of the columns that the attribute `context` names.

        Columns that `table_columns` names may be there too: a feature of the table that they hold, as of an entity that
        is not in it, is read from them, and the others by row.

        Raises:
          ValueError: a column is missing or unknown.
        """
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
          features: all features of the tower but "id".
          ids: row of each entity that train knows, below the number of these; None: all are unknown.

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
        """Returns which rows of which table a call with `rows` looks up, by the table's path in the tower.

        Tables are left out where the example tells the rows, and where they are so small that a dense update is
        faster. Row 0 is among the rows wherever a feature may be missing. O(U W log(U W)) time.

        Args:
          rows: distinct, ascending entity rows, padded at the end with 0.
        """
        found = {}
        for path, looked_up in self.rows_read(rows).items():
            name = path.removeprefix("features/").removesuffix("/table")
            if name == ID and self.all_known and not self.features[ID].dropout.rate:
                found[path] = rows
                continue
            number = looked_up.size + 1
            if number * ROWS_A_LOOKUP <= self.features[name].num_rows:
                looked_up = jnp.append(looked_up.ravel(), jnp.int32(UNKNOWN_ROW))
                found[path] = jnp.unique(looked_up, size=number, fill_value=UNKNOWN_ROW)
        return found

    def rows_read(self, rows: Int[Array, "U"]) -> dict[str, Int[Array, "U _"]]:
        """Returns which rows of each table every entity reads, padded with 0, by the table's path in the tower.

        Tables are left out where the example tells the rows.

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
        """Returns the rows, and the unknown one in place of those of entities that train does not know."""
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
