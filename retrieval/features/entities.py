"""Features of entities in serving: of the rows of a vocabulary, and of other entities from raw columns."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from retrieval.common.choices import did_you_mean
from retrieval.data.column_values import listed_texts
from retrieval.data.columns import RefusedValue, to_list
from retrieval.data.ids import Ids
from retrieval.data.interactions import Table
from retrieval.data.joined_values import join_values
from retrieval.features.base import Encoder
from retrieval.features.encoded import TABLE, Encoded, to_columns
from retrieval.features.fitting import ID, encode_table
from retrieval.features.registry import encoder_from_json
from retrieval.features.values import to_texts

Raw = Table | Mapping[str, Any] | Sequence[Mapping[str, Any]]  # raw columns of some entities, of one, of some
Columns = dict[str, Shaped[np.ndarray, "n ..."]]
PARTS = ("rows", "weights", "values")  # parts of an encoded feature, each an array or None


class RawColumn(NamedTuple):
    """A raw column that m of n entities have.

    Attributes:
      indices: indices of the entities that have the column, ascending [m].
      values: values of these entities [m].
    """

    indices: Int[np.ndarray, "m"]
    values: Sequence | Shaped[np.ndarray, "m ..."]


@dataclasses.dataclass(frozen=True)
class EntityFeatures:
    """The encoded features of a tower's entities, and the encoders for raw columns of others.

    Attributes:
      encoders: encoders by the feature's name.
      encoded: each feature of every row of the vocabulary, row 0 first, by the same names.
      columns: names of all columns of the table of entities, whether a feature reads them or not.

    Raises:
      ValueError: features and encoders do not match, or the features have different numbers of rows.
    """

    encoders: Mapping[str, Encoder] = dataclasses.field(default_factory=dict)
    encoded: Mapping[str, Encoded] = dataclasses.field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def __post_init__(self):
        if list(self.encoders) != list(self.encoded):
            raise ValueError(f"features {list(self.encoded)} received for the encoders {list(self.encoders)}")
        for name, encoded in self.encoded.items():
            _check(name, encoded, self.encoders[name])
        if len(lengths := {_length(encoded) for encoded in self.encoded.values()}) > 1:
            raise ValueError(f"all features must have one number of rows, got {sorted(lengths)}")

    @classmethod
    def of_table(cls, encoders: Mapping[str, Encoder], table: Table, ids: Ids) -> EntityFeatures:
        """Encodes the features of the entities with these ids, row 0 before them; see `encode_table`."""
        return cls(encoders, encode_table(encoders, table, ids), tuple(table.columns))

    @property
    def num_rows(self) -> int | None:
        """Number of rows of the features; None without features."""
        return next(map(_length, self.encoded.values()), None)

    def of_rows(self, rows: Int[np.ndarray, "n"]) -> Columns:
        """Returns the columns of these rows that a tower reads, [n, ...] each; O(n) time."""
        columns: Columns = {}
        for name, encoded in self.encoded.items():
            columns |= to_columns(TABLE + name, Encoded(*(None if part is None else part[rows] for part in encoded)))
        return columns

    def of_raw(self, rows: Int[np.ndarray, "n"], ids: Ids | None, raw: Raw) -> Columns:
        """Returns the columns that a tower reads of entities with raw columns; columns not given are as in the table.

        Args:
          rows: row of each entity; 0 for an entity that is not in the vocabulary, whose columns not given are missing.
          ids: ids of the entities, for a feature of the id; None: unknown.
          raw: a mapping of columns to values for each entity, or a table; a missing value is "", NaN or None. Several
            values of one entity (genres) are a list, or one text joined by "|" with escapes, see `join_values`.

        Raises:
          ValueError: the numbers of mappings and rows differ, or the table has no such column.
          DataError: a value cannot be encoded; the message names the entity by its index.
        """
        number, given = as_columns(raw, ids)
        if number != len(rows):
            raise ValueError(f"features need one mapping for each of {len(rows)}, got {number}")
        for name in given:
            if name not in (ID, *self.columns):
                known = ", ".join(map(repr, self.columns)) or "none"
                raise ValueError(
                    f"no column {name!r} in the table, only {known}{did_you_mean(str(name), self.columns)}"
                )
        columns: Columns = {}
        for name, encoder in self.encoders.items():
            encoded = Encoded(*(None if part is None else part[rows] for part in self.encoded[name]))
            if encoder.column in given:
                encoded = _merged(encoded, given[encoder.column].indices, _encode(encoder, given))
            columns |= to_columns(TABLE + name, encoded)
        return columns

    def to_json(self) -> str:
        """Returns the encoders and the names of the columns as JSON text."""
        features = [{"name": name, "encoder": json.loads(encoder.to_json())} for name, encoder in self.encoders.items()]
        return json.dumps({"columns": list(self.columns), "features": features}, allow_nan=False)

    def arrays(self) -> dict[str, Shaped[np.ndarray, "n _"]]:
        """Returns the arrays of the encoded features, named by the feature's number and the part, as "0_rows"."""
        return {
            f"{number}_{part}": array
            for number, encoded in enumerate(self.encoded.values())
            for part, array in zip(PARTS, encoded, strict=True)
            if array is not None
        }

    @classmethod
    def from_json(cls, text: str, arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> EntityFeatures:
        """Reads features written by `to_json` and `arrays`.

        Raises:
          ValueError: text and arrays do not match, or do not describe features.
        """
        try:
            content = json.loads(text)
            listed = [
                (feature["name"], encoder_from_json(json.dumps(feature["encoder"]))) for feature in content["features"]
            ]
            columns = tuple(map(str, content["columns"]))
            if not all(isinstance(name, str) for name, _ in listed):
                raise TypeError("a name that is not text")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not features: {error!r} in {text[:60]!r}") from None
        encoded = {
            name: Encoded(*(arrays.get(f"{number}_{part}") for part in PARTS))
            for number, (name, _) in enumerate(listed)
        }
        return cls(dict(listed), encoded, columns)


def as_columns(raw: Raw, ids: Ids | None = None) -> tuple[int, dict[str, RawColumn]]:
    """Returns the number of entities in raw features, and their columns, with the column "id" if ids are known.

    Raises:
      ValueError: the raw features are neither a table nor mappings.

    >>> as_columns([{"age": 20}, {"age": 30, "city": "Ulm"}])[1]["city"]
    RawColumn(indices=array([1]), values=['Ulm'])
    >>> as_columns(Table([7, 8], {"age": np.array([20, 30])}))[1]["id"].values
    array([7, 8])
    """
    if isinstance(raw, Table):
        every = np.arange(len(raw))
        columns = {name: RawColumn(every, column) for name, column in raw.columns.items()}
        return len(raw), columns | {ID: RawColumn(every, raw.ids if ids is None else ids)}
    listed = [raw] if isinstance(raw, Mapping) else raw
    if not isinstance(listed, Sequence) or not all(isinstance(entity, Mapping) for entity in listed):
        raise ValueError(f"features must be a mapping of columns to values, or a list of one for each, got {raw!r}")
    columns = {}
    for name in dict.fromkeys(name for entity in listed for name in entity):
        indices = np.array([i for i, entity in enumerate(listed) if name in entity])
        columns[name] = RawColumn(indices, _alike([_plain(listed[i][name], name, i) for i in indices.tolist()], name))
    if ids is not None:
        columns[ID] = RawColumn(np.arange(len(ids)), ids)
    return len(listed), columns


def ids_of(raw: Raw) -> Sequence | Ids | None:
    """Returns the ids in raw features; None unless every entity has one.

    >>> ids_of([{"id": 7, "age": 20}, {"id": 8}]), ids_of({"age": 20})
    ([7, 8], None)
    """
    number, columns = as_columns(raw)
    return columns[ID].values if ID in columns and len(columns[ID].indices) == number else None


def _plain(value: Any, name: str, row: int) -> Any:
    """Returns a value as encoders read it: a list of values is joined, see `join_values`."""
    if not isinstance(value, list | tuple | np.ndarray):
        return value
    return join_values(listed_texts(value, f"feature {name!r}", row))


def _alike(values: list, name: str) -> list:
    """Returns numbers beside text as text: entities of one request may come from different sources."""
    if not any(isinstance(value, str) for value in values):
        return values
    return [value if isinstance(value, str) else to_texts([value], name)[0].item() for value in values]


def _encode(encoder: Encoder, given: Mapping[str, RawColumn]) -> Encoded:
    """Encodes the feature of the entities that have its column."""
    indices, values = given[encoder.column]
    weights = None
    if encoder.weights:
        column = given.get(encoder.weights, RawColumn(indices[:0], []))
        given_weights = to_list(column.values) if isinstance(column.values, np.ndarray) else column.values
        weight_of = dict(zip(column.indices.tolist(), given_weights, strict=True))
        weights = [weight_of.get(index) for index in indices.tolist()]
    try:
        return encoder.encode(values, weights)
    except RefusedValue as error:
        raise error.at(f"entity {indices[error.row]}") from None


def _merged(table: Encoded, indices: Int[np.ndarray, "m"], encoded: Encoded) -> Encoded:
    """Replaces the features of the entities at `indices`.

    If the new features are wider, the width becomes a power of two, which bounds the number of compiled programs.
    """

    def replaced(stored, new):
        if stored is None:
            return None
        width = stored.shape[1]
        if new.shape[1] > width:
            width = 1 << (new.shape[1] - 1).bit_length()
        merged = np.zeros((len(stored), width), stored.dtype)
        merged[:, : stored.shape[1]] = stored
        merged[indices] = 0  # padding of the wider features has weight 0
        merged[indices, : new.shape[1]] = new
        return merged

    return Encoded(*map(replaced, table, encoded))


def _length(encoded: Encoded) -> int:
    return len(encoded.values if encoded.rows is None else encoded.rows)


def _check(name: str, encoded: Encoded, encoder: Encoder) -> None:
    """Checks that arrays have the types, shapes and ranges that the encoder makes, as they may come from disk."""
    num_rows, size, _ = encoder.spec
    rows, weights, values = encoded
    if num_rows:
        sound = values is None and rows is not None and weights is not None and rows.shape == weights.shape
        sound = sound and rows.ndim == 2 and rows.dtype == np.int32 and weights.dtype == np.float32
        sound = sound and 0 <= rows.min(initial=0) and rows.max(initial=0) < num_rows
    else:
        sound = rows is None and weights is None and values is not None and values.dtype == np.float32
        sound = sound and values.ndim == 2 and values.shape[1] == size
    if not sound:
        received = {
            part: None if array is None else (array.dtype, array.shape)
            for part, array in zip(PARTS, encoded, strict=True)
        }
        raise ValueError(f"feature {name!r} does not match its encoder, {encoder.spec}: received {received}")
