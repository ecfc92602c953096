"""The base class of encoders: settings that they read, encoding, and a checked form on disk."""

from __future__ import annotations

import abc
import dataclasses
import json
import math
import typing
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from retrieval.common.choices import did_you_mean
from retrieval.features.encoded import Encoded, Spec


@runtime_checkable
class FeatureSettings(Protocol):
    """Settings of a feature, as `retrieval.config.schema.Feature`; an encoder reads those that its kind names.

    Attributes:
      column: name of the column.
      kind: name of the kind, a key of `registry.KINDS`.
      size: number of rows of a hashed table, of buckets, or of frequencies.
      hashes: rows that a value looks up in a hashed table; 0: a vocabulary, not hashed.
      combiner: how a model combines the rows of one entity, one of `COMBINERS`.
      weights: column of the weights of a bag's values; "": none.
      period: longest period, in units of the column.
    """

    column: str
    kind: str
    size: int
    hashes: int
    combiner: str
    weights: str
    period: float


@dataclasses.dataclass(frozen=True)
class Encoder(abc.ABC):
    """Encodes a column. Its fields hold the statistics of the training part, and JSON on disk holds the fields.

    Attributes:
      column: name of the column.
    """

    kind: ClassVar[str]
    settings: ClassVar[tuple[str, ...]] = ()  # fields of `FeatureSettings` that `fit` reads besides the column

    column: str

    @classmethod
    @abc.abstractmethod
    def fit(
        cls, feature: FeatureSettings, values: Sequence | np.ndarray, weights: Sequence | np.ndarray | None
    ) -> Encoder:
        """Fits the encoder of a feature to the values of the training part [n], and their weights."""

    @property
    def weights(self) -> str:
        """Column of the weights that `encode` expects besides the values; "": none."""
        return ""

    @property
    @abc.abstractmethod
    def spec(self) -> Spec:
        """Shape of the encoded feature, from which a model creates its parameters."""

    def encode(self, values: Sequence | np.ndarray, weights: Sequence | np.ndarray | None = None) -> Encoded:
        """Encodes the values of n entities, each independently of the others.

        Args:
          values: text, numbers or None [n]; None, "" and NaN are missing. Vectors may also be an array [n, F].
          weights: weights of a bag's values, if the encoder names a column of weights.

        Raises:
          DataError: a value cannot be encoded; the message names the value and its row, counted from 0.
          ValueError: weights are given and not expected, or expected and not given.
        """
        if (weights is not None) != bool(self.weights):
            expected = f"weights from column {self.weights!r}" if self.weights else "no weights"
            received = "none" if weights is None else f"{len(weights)}"
            raise ValueError(f"feature {self.column!r} of kind {self.kind!r} takes {expected}, received {received}")
        return self._encode(values, weights)

    @abc.abstractmethod
    def _encode(self, values, weights) -> Encoded:
        """Encodes values; `encode` has checked that weights are given if and only if they are expected."""

    def to_json(self) -> str:
        """Returns the encoder as JSON text: its kind and its fields."""
        return json.dumps({"kind": self.kind, **dataclasses.asdict(self)}, allow_nan=False)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Encoder:
        """Creates an encoder from fields read from JSON.

        Raises:
          ValueError: a field is missing, unknown, of another type, not finite, or contradicts the others.
        """
        # The file may come from anywhere: names and types are checked before a constructor sees them.
        hints = {field.name: typing.get_type_hints(cls)[field.name] for field in dataclasses.fields(cls)}
        for name in fields.keys() - hints.keys():
            raise ValueError(f"unknown field {name!r}{did_you_mean(name, hints)}")
        for name in hints.keys() - fields.keys():
            raise ValueError(f"field {name!r} is missing")
        return cls(**{name: _checked(hints[name], fields[name], name) for name in hints})


def require(holds: bool, problem: str, received: object) -> None:
    """Checks a condition.

    Raises:
      ValueError: `holds` is False; the message is the problem and the received value, at most 300 characters.
    """
    if not holds:
        raise ValueError(f"{problem}, got {received!r}"[:300])


def _checked(hint: Any, value: Any, place: str) -> Any:
    """Returns a JSON value as an instance of the annotated type: a scalar, or a tuple of scalars."""
    if typing.get_origin(hint) is tuple:
        require(type(value) is list, f"field {place!r} must be a list", value)
        return tuple(_checked(typing.get_args(hint)[0], item, f"{place}[{i}]") for i, item in enumerate(value))
    require(type(value) is hint, f"field {place!r} must be of type {hint.__name__}", value)
    require(hint is not float or math.isfinite(value), f"field {place!r} must be finite", value)
    return value
