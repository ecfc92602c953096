"""Encoders of the features that a config gives a tower, fitted on train."""

from __future__ import annotations

from collections.abc import Sequence

from retrieval.common.errors import DataError
from retrieval.config import schema as config_lib
from retrieval.data.interactions import Interactions, Table
from retrieval.data.vocabulary import Vocabulary
from retrieval.features import Encoder, feature_names, fit, fit_table
from retrieval.models.feature_inputs import ID

TIMESTAMP = "timestamp"  # the column that is the time of the request


def is_row(feature: config_lib.Feature) -> bool:
    """Tells whether a feature is the row of the entity in its vocabulary: the id, neither hashed nor a number."""
    return feature.column == ID and feature.kind == "category" and not feature.hashes


def reads_table(tower: config_lib.Tower) -> bool:
    """Tells whether a tower reads columns of a table, which also describe entities that train has not seen."""
    return any(not is_row(feature) and feature.column != TIMESTAMP for feature in tower.features)


def fit_features(features: Sequence[config_lib.Feature], table: Table, vocabulary: Vocabulary) -> dict[str, Encoder]:
    """Returns encoders of all features but the row, by name; an encoder of the id is named "id/KIND".

    Raises:
      ValueError: the row is given twice, or the table lacks a column.
    """
    rows = [feature for feature in features if is_row(feature)]
    if len(rows) > 1:
        raise ValueError(f"the feature {ID!r} is given {len(rows)} times; give it once")
    encoders = fit_table([feature for feature in features if not is_row(feature)], table, vocabulary.ids)
    return {f"{ID}/{encoder.kind}" if name == ID else name: encoder for name, encoder in encoders.items()}


def split_by_time(
    features: Sequence[config_lib.Feature],
) -> tuple[list[config_lib.Feature], list[config_lib.Feature]]:
    """Returns the features of the request's time, and the features of the table."""
    return [f for f in features if f.column == TIMESTAMP], [f for f in features if f.column != TIMESTAMP]


def fit_times(features: Sequence[config_lib.Feature], train: Interactions) -> dict[str, Encoder]:
    """Returns encoders of the request's time, fitted on the times in train, by the feature's name.

    Raises:
      ValueError: there are such features, and the interactions have no timestamps.
    """
    if features and train.timestamps is None:
        raise DataError(
            "a feature of the query tower is the timestamp, and the interactions have none", needed="timestamps"
        )
    names = feature_names(features)
    return {name: fit(feature, train.timestamps) for name, feature in zip(names, features, strict=True)}
