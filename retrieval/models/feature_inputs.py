"""Inputs of a feature tower: the shape of each feature, its columns, and the check that they fit together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from jaxtyping import Array

from retrieval.features.encoded import Encoded, Spec

ID = "id"  # the feature that is the entity's own row


class FeatureInput(NamedTuple):
    """A feature of a `FeatureTower`.

    Attributes:
      spec: shape of the encoded feature; of the feature "id", `num_rows` counts the entities known in train.
      dimension: size of its embedding; 0: that of the tower.
      dropout: probability that training treats the feature as missing.
      encoded: the feature of each row of the entity table; None: it comes with the example, or is "id".
    """

    spec: Spec
    dimension: int = 0
    dropout: float = 0.0
    encoded: Encoded | None = None


def context_columns(name: str, feature: FeatureInput) -> tuple[str, ...]:
    """Returns the names of the example's columns that hold a feature; none for the id and features of the table."""
    return () if name == ID or feature.encoded is not None else column_names(name, feature.spec)


def column_names(name: str, spec: Spec) -> tuple[str, ...]:
    """Returns the names of the columns that `to_columns` makes of a feature."""
    return (name, f"{name}/weights") if spec.num_rows else (name,)


def read_columns(name: str, columns: Mapping[str, Array]) -> Encoded:
    """Returns the encoded feature in columns made by `retrieval.features.to_columns`."""
    weights = columns.get(f"{name}/weights")
    return Encoded(None, None, columns[name]) if weights is None else Encoded(columns[name], weights, None)


def check_inputs(features: Mapping[str, FeatureInput], num_entities: int, summed: int) -> None:
    """Checks that features fit a tower.

    Args:
      features: the features by name.
      num_entities: rows of the entity table.
      summed: dimension of the sum of the embeddings; 0: they are concatenated, and each may have its own.

    Raises:
      ValueError: there is no feature, one is encoded for other rows, or one cannot be added to the others.
    """
    if not features:
        raise ValueError("a tower needs at least one feature, received none; 'id' is the row of the entity itself")
    for name, (spec, dimension, _, encoded) in features.items():
        if name == ID and spec.num_rows > num_entities:
            raise ValueError(f"feature 'id' has {spec.num_rows} known rows, more than the {num_entities} entities")
        rows = num_entities if encoded is None else len(encoded.values if encoded.rows is None else encoded.rows)
        if rows != num_entities:
            raise ValueError(f"feature {name!r} is encoded for {rows} entities, the table has {num_entities}")
        if summed and dimension not in (0, summed):
            raise ValueError(
                f"feature {name!r} has dimension {dimension}, the sum of features has {summed}; leave it 0, or set "
                "combine='concat'"
            )
