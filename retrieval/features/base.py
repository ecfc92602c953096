"""What all encoders share: a place in the config, a form on disk, and the check of what is read from there."""

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
    """The settings of a feature that its encoder reads.

    Attributes:
      column: its column.
      kind: which encoder.
      size: rows of a hashed table, number of buckets, or of frequencies.
      hashes: rows that a value looks up in a hashed table; 0: a vocabulary, not hashed.
      combiner: how a model combines the rows of one entity.
      weights: column of the weights of a bag's values; "": none.
      period: the longest period, in units of the column.
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
    """Encodes a column; what it knows of the training part is in its fields, and on disk as JSON.

    Attributes:
      column: the column that it encodes.
    """

    kind: ClassVar[str]
    settings: ClassVar[tuple[str, ...]] = ()  # fields of `FeatureSettings` that it reads beside the column

    column: str

    @classmethod
    @abc.abstractmethod
    def fit(
        cls, feature: FeatureSettings, values: Sequence | np.ndarray, weights: Sequence | np.ndarray | None
    ) -> Encoder:
        """Returns the encoder of this feature of the training part."""

    @property
    def weights(self) -> str:
        """The column of weights that `encode` expects beside the values; "": none."""
        return ""

    @property
    @abc.abstractmethod
    def spec(self) -> Spec:
        """What a model needs to know of the feature."""

    def encode(self, values: Sequence | np.ndarray, weights: Sequence | np.ndarray | None = None) -> Encoded:
        """Returns the feature of n entities, each encoded by itself.

        Args:
          values: text, numbers or None, which is missing as "" and NaN are [n]; of a vector also [n, F].
          weights: of the values of a bag, where the encoder names a column for them.

        Raises:
          DataError: a value cannot be encoded; it says which, in which row, counted from 0.
          ValueError: weights are given and not expected, or the reverse.
        """
        if (weights is not None) != bool(self.weights):
            expected = f"weights from column {self.weights!r}" if self.weights else "no weights"
            received = "none" if weights is None else f"{len(weights)}"
            raise ValueError(f"feature {self.column!r} of kind {self.kind!r} takes {expected}, received {received}")
        return self._encode(values, weights)

    @abc.abstractmethod
    def _encode(self, values, weights) -> Encoded:
        """Returns what `encode` does, once weights are there that are expected."""

    def to_json(self) -> str:
        """Returns the encoder as JSON text: its kind and its fields."""
        return json.dumps({"kind": self.kind, **dataclasses.asdict(self)}, allow_nan=False)

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Encoder:
        """Returns the encoder with these fields, read from JSON.

        Raises:
          ValueError: a field is missing, unknown, of another type, not finite, or does not go with the others.
        """
        hints = {field.name: typing.get_type_hints(cls)[field.name] for field in dataclasses.fields(cls)}
        for name in fields.keys() - hints.keys():
            raise ValueError(f"unknown field {name!r}{did_you_mean(name, hints)}")
        for name in hints.keys() - fields.keys():
            raise ValueError(f"field {name!r} is missing")
        return cls(**{name: _checked(hints[name], fields[name], name) for name in hints})


def require(holds: bool, problem: str, received: object) -> None:
    """Raises ValueError with the problem and what was received unless `holds`."""
    if not holds:
        raise ValueError(f"{problem}, got {received!r}"[:300])


def _checked(hint: Any, value: Any, place: str) -> Any:
    """Returns a JSON value as an instance of the annotated type: a scalar, or a tuple of any number of them."""
    if typing.get_origin(hint) is tuple:
        require(type(value) is list, f"field {place!r} must be a list", value)
        return tuple(_checked(typing.get_args(hint)[0], item, f"{place}[{i}]") for i, item in enumerate(value))
    require(type(value) is hint, f"field {place!r} must be of type {hint.__name__}", value)
    require(hint is not float or math.isfinite(value), f"field {place!r} must be finite", value)
    return value
