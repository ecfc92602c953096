"""The features of a vocabulary's entities, and of any others from their raw columns: the same code in all places."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Shaped

from retrieval.common.choices import did_you_mean
from retrieval.data.ids import Ids
from retrieval.data.interactions import Table
from retrieval.features.base import Encoder
from retrieval.features.categories import SEPARATOR
from retrieval.features.encoded import TABLE, Encoded, to_columns
from retrieval.features.fitting import ID, encode_table
from retrieval.features.registry import encoder_from_json
from retrieval.features.values import RefusedValue

Raw = Table | Mapping[str, Any] | Sequence[Mapping[str, Any]]  # of some entities, of one, of some
Columns = dict[str, Shaped[np.ndarray, "n ..."]]
PARTS = ("rows", "weights", "values")  # of a feature, each an array or None


class Given(NamedTuple):
    """A raw column of some of n entities.

    Attributes:
      places: of the entities that give it, ascending [m].
      values: theirs [m].
    """

    places: Int[np.ndarray, "m"]
    values: Sequence | Shaped[np.ndarray, "m ..."]


@dataclasses.dataclass(frozen=True)
class EntityFeatures:
    """What a tower reads of its entities beside their rows.

    Attributes:
      encoders: by the feature's name.
      encoded: each feature of every row of the vocabulary, row 0 first, by the same names.
      columns: names of the columns of the table that they are taken from, whether a feature reads them or not.

    Raises:
      ValueError: the features are not those of the encoders, or not of equally many rows.
    """

    encoders: Mapping[str, Encoder] = dataclasses.field(default_factory=dict)
    encoded: Mapping[str, Encoded] = dataclasses.field(default_factory=dict)
    columns: tuple[str, ...] = ()

    def __post_init__(self):
        if list(self.encoders) != list(self.encoded):
            raise ValueError(f"features {list(self.encoded)} received for the encoders {list(self.encoders)}")
        for name, encoded in self.encoded.items():
            _check(name, encoded, self.encoders[name])
        if len(lengths := {_length(of) for of in self.encoded.values()}) > 1:
            raise ValueError(f"features must be of equally many rows, got {sorted(lengths)}")

    @classmethod
    def of_table(cls, encoders: Mapping[str, Encoder], table: Table, ids: Ids) -> EntityFeatures:
        """Returns the features of the entities with these ids, row 0 before them; see `encode_table`."""
        return cls(encoders, encode_table(encoders, table, ids), tuple(table.columns))

    @property
    def num_rows(self) -> int | None:
        """The number of rows that the features are of; None: there are no features."""
        return next(map(_length, self.encoded.values()), None)

    def of_rows(self, rows: Int[np.ndarray, "n"]) -> Columns:
        """Returns the columns that a tower reads of these rows, [n, ...] each; O(n) time."""
        columns: Columns = {}
        for name, encoded in self.encoded.items():
            columns |= to_columns(TABLE + name, Encoded(*(None if of is None else of[rows] for of in encoded)))
        return columns

    def of_raw(self, rows: Int[np.ndarray, "n"], ids: Ids | None, raw: Raw) -> Columns:
        """Returns the columns of entities whose raw columns are given; what is not given is as in the table.

        Args:
          rows: of the entities, 0 for those that are not in the vocabulary: these miss what is not given.
          ids: theirs, which a feature of the id reads; None: there are none.
          raw: a mapping of columns to values for each entity, or a table; a missing value is "", NaN or None. Several
            values of one entity (genres) are a list, or one string joined by "|".

        Raises:
          ValueError: there are not as many mappings as rows, a column is not one of the table, or a value cannot be
            encoded; a DataError says of which entity.
        """
        number, given = as_columns(raw, ids)
        if number != len(rows):
            raise ValueError(f"features need one mapping for each of {len(rows)}, got {number}")
        for name in given:
            if name not in (ID, *self.columns):
                there = ", ".join(map(repr, self.columns)) or "none"
                raise ValueError(
                    f"no column {name!r} in the table, only {there}{did_you_mean(str(name), self.columns)}"
                )
        columns: Columns = {}
        for name, encoder in self.encoders.items():
            encoded = Encoded(*(None if of is None else of[rows] for of in self.encoded[name]))
            if encoder.column in given:
                encoded = _merged(encoded, given[encoder.column].places, _encode(encoder, given))
            columns |= to_columns(TABLE + name, encoded)
        return columns

    def to_json(self) -> str:
        """Returns the encoders and the names of the columns as JSON text."""
        features = [{"name": name, "encoder": json.loads(of.to_json())} for name, of in self.encoders.items()]
        return json.dumps({"columns": list(self.columns), "features": features}, allow_nan=False)

    def arrays(self) -> dict[str, Shaped[np.ndarray, "n _"]]:
        """Returns the encoded features by the feature's number and the part, as "0_rows"."""
        return {
            f"{number}_{part}": array
            for number, encoded in enumerate(self.encoded.values())
            for part, array in zip(PARTS, encoded, strict=True)
            if array is not None
        }

    @classmethod
    def from_json(cls, text: str, arrays: Mapping[str, Shaped[np.ndarray, "..."]]) -> EntityFeatures:
        """Reads what `to_json` and `arrays` gave.

        Raises:
          ValueError: they are not of one another, or not of features at all.
        """
        try:
            content = json.loads(text)
            listed = [(of["name"], encoder_from_json(json.dumps(of["encoder"]))) for of in content["features"]]
            columns = tuple(map(str, content["columns"]))
            if not all(isinstance(name, str) for name, _ in listed):
                raise TypeError("a name that is no text")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"not features: {error!r} in {text[:60]!r}") from None
        encoded = {
            name: Encoded(*(arrays.get(f"{number}_{part}") for part in PARTS))
            for number, (name, _) in enumerate(listed)
        }
        return cls(dict(listed), encoded, columns)


def as_columns(raw: Raw, ids: Ids | None = None) -> tuple[int, dict[str, Given]]:
    """Returns the number of entities of raw features, and their columns; ids count as one where they are known.

    Raises ValueError where they are none.

    >>> as_columns([{"age": 20}, {"age": 30, "city": "Ulm"}])[1]["city"]
    Given(places=array([1]), values=['Ulm'])
    >>> as_columns(Table([7, 8], {"age": np.array([20, 30])}))[1]["id"].values
    array([7, 8])
    """
    if isinstance(raw, Table):
        every = np.arange(len(raw))
        columns = {name: Given(every, column) for name, column in raw.columns.items()}
        return len(raw), columns | {ID: Given(every, raw.ids if ids is None else ids)}
    listed = [raw] if isinstance(raw, Mapping) else raw
    if not isinstance(listed, Sequence) or not all(isinstance(of, Mapping) for of in listed):
        raise ValueError(f"features must be a mapping of columns to values, or a list of one for each, got {raw!r}")
    columns = {}
    for name in dict.fromkeys(name for of in listed for name in of):
        places = np.array([i for i, of in enumerate(listed) if name in of])
        columns[name] = Given(places, [_plain(listed[i][name]) for i in places])
    if ids is not None:
        columns[ID] = Given(np.arange(len(ids)), ids)
    return len(listed), columns


def ids_of(raw: Raw) -> Sequence | Ids | None:
    """Returns the ids that raw features tell of all entities; None where they do not.

    >>> ids_of([{"id": 7, "age": 20}, {"id": 8}]), ids_of({"age": 20})
    ([7, 8], None)
    """
    number, columns = as_columns(raw)
    return columns[ID].values if ID in columns and len(columns[ID].places) == number else None


def _plain(value: Any) -> Any:
    """Returns a value as encoders read it: several of one entity joined."""
    return SEPARATOR.join(map(str, value)) if isinstance(value, list | tuple | np.ndarray) else value


def _encode(encoder: Encoder, given: Mapping[str, Given]) -> Encoded:
    """Returns the feature of the entities that give its column."""
    places, values = given[encoder.column]
    weights = None
    if encoder.weights:
        of_weights = given.get(encoder.weights, Given(places[:0], []))
        found = dict(zip(of_weights.places.tolist(), of_weights.values, strict=True))
        weights = [found.get(place) for place in places.tolist()]
    try:
        return encoder.encode(values, weights)
    except RefusedValue as error:
        raise error.at(f"entity {places[error.row]}") from None


def _merged(table: Encoded, places: Int[np.ndarray, "m"], encoded: Encoded) -> Encoded:
    """Returns the features of a table with those of other entities in these places.

    Where these are wider, the width becomes a power of two: a program is compiled for each that it meets.
    """

    def placed(stored, new):
        if stored is None:
            return None
        width = stored.shape[1]
        if new.shape[1] > width:
            width = 1 << (new.shape[1] - 1).bit_length()
        merged = np.zeros((len(stored), width), stored.dtype)
        merged[:, : stored.shape[1]] = stored
        merged[places] = 0
        merged[places, : new.shape[1]] = new
        return merged

    return Encoded(*map(placed, table, encoded))


def _length(encoded: Encoded) -> int:
    return len(encoded.values if encoded.rows is None else encoded.rows)


def _check(name: str, encoded: Encoded, encoder: Encoder) -> None:
    """Raises ValueError unless the arrays are such as the encoder makes."""
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
        received = {part: None if of is None else (of.dtype, of.shape) for part, of in zip(PARTS, encoded, strict=True)}
        raise ValueError(f"feature {name!r} is not what its encoder makes, {encoder.spec}, received {received}")
