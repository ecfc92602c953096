"""From the settings of a feature to its encoder, and encoders from disk."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from retrieval.common.choices import did_you_mean
from retrieval.common.errors import DataError
from retrieval.features.base import Encoder, FeatureSettings
from retrieval.features.categories import Bag, Category, Words
from retrieval.features.numbers import Buckets, Number, Periodic
from retrieval.features.vectors import Vector

KINDS = {kind.kind: kind for kind in (Category, Bag, Number, Buckets, Periodic, Words, Vector)}
UNSET = {"size": 0, "hashes": 0, "combiner": "mean", "weights": "", "period": 0.0}  # settings that some kinds read


def fit(
    feature: FeatureSettings, values: Sequence | np.ndarray, weights: Sequence | np.ndarray | None = None
) -> Encoder:
    """Returns the encoder of a feature, with the statistics of `values`.

    >>> from types import SimpleNamespace
    >>> unset = {"size": 0, "hashes": 0, "combiner": "mean", "weights": "", "period": 0.0}
    >>> encoder = fit(SimpleNamespace(column="age", kind="number", **unset), [20, 40])
    >>> encoder.encode([40, None]).values.tolist(), encoder.spec
    ([[1.0, 0.0], [0.0, 1.0]], Spec(num_rows=0, size=2, combiner=''))

    Args:
      feature: its settings, as `retrieval.config.schema.Feature`.
      values: the column in the training part, one value for each entity: text, numbers or None [n]; of vectors also
        [n, F].
      weights: the weights of a bag's values [n], where `feature.weights` names their column.

    Raises:
      ValueError: there is no such kind, or a setting is missing, out of range or not of this kind; a DataError where a
        value cannot be encoded, as text in place of a number.
    """
    kind = _kind(feature.kind, f"feature {feature.column!r}: kind")
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
    """Reads what `Encoder.to_json` wrote; the encoder is the same to the bit.

    Raises:
      ValueError: the text is not that of an encoder; says which field.
    """
    try:
        fields = dict(json.loads(text))
        return _kind(fields.pop("kind", None), "kind").from_fields(fields)
    except (TypeError, ValueError) as error:
        raise ValueError(f"not an encoder: {error}, in {text[:60]!r}") from None


def _kind(name: object, what: str) -> type[Encoder]:
    if not isinstance(name, str) or name not in KINDS:
        near = did_you_mean(str(name), KINDS) or f"; the kinds are {', '.join(KINDS)}"
        raise ValueError(f"{what} must be one of the kinds of features, got {name!r}{near}")
    return KINDS[name]
