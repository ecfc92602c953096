"""The registry of feature kinds: from the settings of a feature to its encoder, and encoders read from disk."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from retrieval.common.choices import check_choice
from retrieval.common.errors import DataError
from retrieval.features.base import Encoder, FeatureSettings
from retrieval.features.categories import Bag, Category, Words
from retrieval.features.numbers import Buckets, Number, Periodic
from retrieval.features.vectors import Vector

# A kind is a class of encoders: its attribute `kind` is its name in a config, and `settings` the fields that it reads.
KINDS = {cls.kind: cls for cls in (Category, Bag, Number, Buckets, Periodic, Words, Vector)}
UNSET = {"size": 0, "hashes": 0, "combiner": "mean", "weights": "", "period": 0.0}  # settings that some kinds read


def fit(
    feature: FeatureSettings, values: Sequence | np.ndarray, weights: Sequence | np.ndarray | None = None
) -> Encoder:
    """Fits the encoder of a feature to the values of the training part.

    >>> from types import SimpleNamespace
    >>> unset = {"size": 0, "hashes": 0, "combiner": "mean", "weights": "", "period": 0.0}
    >>> encoder = fit(SimpleNamespace(column="age", kind="number", **unset), [20, 40])
    >>> encoder.encode([40, None]).values.tolist(), encoder.spec
    ([[1.0, 0.0], [0.0, 1.0]], Spec(num_rows=0, size=2, combiner=''))

    Args:
      feature: settings of the feature, as `retrieval.config.schema.Feature`.
      values: the column in the training part, one value for each entity: text, numbers or None [n]; vectors also as
        an array [n, F].
      weights: weights of a bag's values [n], if `feature.weights` names their column.

    Raises:
      ValueError: the kind is unknown, or a setting is missing, out of range, or set although the kind does not read it.
      DataError: a value cannot be encoded, as text in place of a number.
    """
    check_choice(f"feature {feature.column!r}: kind", feature.kind, KINDS)
    kind = KINDS[feature.kind]
    for name, unset in UNSET.items():
        if name not in kind.settings and getattr(feature, name) != unset:
            received = f"{name}={getattr(feature, name)!r}"
            raise ValueError(f"feature {feature.column!r} of kind {feature.kind!r} has no {name}, got {received}")
    try:
        return kind.fit(feature, values, weights)
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise ValueError(f"feature {feature.column!r} of kind {feature.kind!r}: {error}") from None


def encoder_from_json(text: str) -> Encoder:
    """Reads an encoder written by `Encoder.to_json`, the same to the bit.

    Raises:
      ValueError: the text does not describe an encoder; the message names the field.
    """
    try:
        fields = dict(json.loads(text))
        if "kind" not in fields:
            raise ValueError("field 'kind' is missing")
        kind = str(fields.pop("kind"))
        check_choice("kind", kind, KINDS)
        return KINDS[kind].from_fields(fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"not an encoder: {error}, in {text[:60]!r}") from None
