"""Features of a table of entities: encoders fitted on the entities in train, and applied to any entities."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Shaped

from retrieval.common.choices import did_you_mean
from retrieval.data.columns import RefusedValue
from retrieval.data.ids import Ids, as_ids, distinct
from retrieval.data.interactions import Table
from retrieval.features.base import Encoder, FeatureSettings
from retrieval.features.encoded import Encoded
from retrieval.features.registry import fit

ID = "id"  # name of the column of the ids themselves


def feature_names(features: Sequence[FeatureSettings]) -> list[str]:
    """Returns a unique name for each feature: its column, if needed with its kind and a number.

    Features of one column are named column/kind, and from the second feature of a kind on column/kind/number.

    >>> from types import SimpleNamespace
    >>> unset = {"size": 0, "hashes": 0, "combiner": "mean", "weights": ""}
    >>> day, week = (SimpleNamespace(column="time", kind="periodic", period=p, **unset) for p in (86400.0, 604800.0))
    >>> feature_names([SimpleNamespace(column="genres", kind="bag", period=0.0, **unset), day, week])
    ['genres', 'time/periodic', 'time/periodic/2']

    Raises:
      ValueError: a feature is listed twice, or two features get one name.
    """
    for i, feature in enumerate(features):
        if feature in features[:i]:
            raise ValueError(f"feature {feature.column!r} of kind {feature.kind!r} is listed twice; leave one out")
    columns = collections.Counter(feature.column for feature in features)
    seen: collections.Counter[tuple[str, str]] = collections.Counter()
    names = []
    for feature in features:
        column, kind = feature.column, feature.kind
        seen[column, kind] += 1
        number = seen[column, kind]
        names.append(column if columns[column] == 1 else f"{column}/{kind}" + (f"/{number}" if number > 1 else ""))
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"two features are named {repeated[0]!r}; rename a column")
    return names


def fit_table(features: Sequence[FeatureSettings], table: Table, train_ids: Sequence | Ids) -> dict[str, Encoder]:
    """Fits the encoder of each feature to the entities of the training part; returns encoders by name, in order.

    Each entity counts once, however often its id occurs in `train_ids`: statistics are not weighted by interactions.
    Ids that the table lacks are left out, and entities that are not in train have no influence.

    >>> from types import SimpleNamespace
    >>> unset = {"size": 0, "hashes": 0, "combiner": "mean", "weights": "", "period": 0.0}
    >>> table = Table([1, 2, 3], {"age": np.array([20, 40, 90])})
    >>> features = [SimpleNamespace(column="age", kind="number", **unset)]
    >>> encoders = fit_table(features, table, train_ids=[2, 1, 1])
    >>> encode_table(encoders, table, ids=[2, 7])["age"].values.tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]

    Args:
      features: settings; the column "id" is the id itself, any other is a column of the table.
      table: the entities, in train or not.
      train_ids: ids in the training part, repeats allowed.

    Raises:
      ValueError: the table lacks a column; see also `feature_names` and `fit`.
      DataError: a value cannot be encoded; the message names the id.
    """
    ids = distinct(as_ids(train_ids, "train_ids"))
    encoders = {}
    for name, feature in zip(feature_names(features), features, strict=True):
        present, values, weights = _read(table, feature, ids)
        try:
            encoders[name] = fit(feature, values, weights)
        except RefusedValue as error:
            raise error.at(f"id {ids[present][error.row].item()!r}") from None
    return encoders


def encode_table(encoders: Mapping[str, Encoder], table: Table, ids: Sequence | Ids) -> dict[str, Encoded]:
    """Encodes each feature of the entities: row 0 for an unknown entity, which misses all, then one row for each id.

    Args:
      encoders: encoders by name, from `fit_table`.
      table: the entities; an id that the table lacks misses all features except "id".
      ids: raw ids in the order of the rows [n].

    Raises:
      ValueError: the table lacks a column.
      DataError: a value cannot be encoded; the message names the id.
    """
    ids = as_ids(ids, "ids")
    features = {}
    for name, encoder in encoders.items():
        present, values, weights = _read(table, encoder, ids)
        try:
            encoded = encoder.encode(values, weights)
        except RefusedValue as error:
            raise error.at(f"id {ids[present][error.row].item()!r}") from None
        # Encoded are the ids that are present; the others, and row 0 before all, miss the feature.
        positions = np.where(present, np.cumsum(present) - 1, -1)
        features[name] = encoded.spread(np.append(-1, positions))
    return features


def _read(
    table: Table, feature: FeatureSettings | Encoder, ids: Ids
) -> tuple[Bool[np.ndarray, "n"], Shaped[np.ndarray, "m ..."], Shaped[np.ndarray, "m"] | None]:
    """Returns a mask of the ids that have the columns of a feature, and the values and weights of those ids."""
    names = [name for name in (feature.column, feature.weights) if name]
    positions = table.positions(ids)
    present = np.ones(len(ids), bool) if names == [ID] else positions >= 0
    columns = [ids[present] if name == ID else _column(table, name)[positions[present]] for name in names]
    return present, columns[0], columns[1] if len(columns) > 1 else None


def _column(table: Table, name: str) -> Shaped[np.ndarray, "n ..."]:
    if name not in table.columns:
        names = ", ".join(map(repr, [ID, *table.columns]))
        raise ValueError(f"no column {name!r} for a feature, only {names}{did_you_mean(name, [ID, *table.columns])}")
    return table.columns[name]
