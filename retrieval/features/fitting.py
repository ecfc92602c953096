"""Features of a table of entities: fitted on those of the training part, encoded for any."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Shaped

from retrieval.common.choices import did_you_mean
from retrieval.data.ids import Ids, as_ids, distinct
from retrieval.data.interactions import Table
from retrieval.features.base import Encoder, FeatureSettings
from retrieval.features.encoded import Encoded
from retrieval.features.registry import fit
from retrieval.features.values import RefusedValue

ID = "id"  # the column of the ids themselves


def feature_names(features: Sequence[FeatureSettings]) -> list[str]:
    """Returns a name for each feature: its column, with its kind and a number where that is not enough.

    A column with several features gives each its kind, and from the second of a kind on its number.

    >>> from types import SimpleNamespace
    >>> unset = {"size": 0, "hashes": 0, "combiner": "mean", "weights": ""}
    >>> day, week = (SimpleNamespace(column="time", kind="periodic", period=p, **unset) for p in (86400.0, 604800.0))
    >>> feature_names([SimpleNamespace(column="genres", kind="bag", period=0.0, **unset), day, week])
    ['genres', 'time/periodic', 'time/periodic/2']

    Raises:
      ValueError: a feature is there twice, or two features come to the same name.
    """
    for i, feature in enumerate(features):
        if feature in features[:i]:
            raise ValueError(f"feature {feature.column!r} of kind {feature.kind!r} is there twice; leave one out")
    columns = collections.Counter(feature.column for feature in features)
    of_kind: collections.Counter[tuple[str, str]] = collections.Counter()
    names = []
    for feature in features:
        column, kind = feature.column, feature.kind
        of_kind[column, kind] += 1
        number = of_kind[column, kind]
        names.append(column if columns[column] == 1 else f"{column}/{kind}" + (f"/{number}" if number > 1 else ""))
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"two features are named {repeated[0]!r}; rename a column")
    return names


def fit_table(features: Sequence[FeatureSettings], table: Table, train_ids: Sequence | Ids) -> dict[str, Encoder]:
    """Returns the encoder of each feature by its name, in order, with the statistics of the training part.

    These are of the rows of the table, each once however often its id occurs in `train_ids`: not weighted by
    interactions. What the table lacks takes no part, and what train lacks leaves no trace.

    >>> from types import SimpleNamespace
    >>> unset = {"size": 0, "hashes": 0, "combiner": "mean", "weights": "", "period": 0.0}
    >>> table = Table([1, 2, 3], {"age": np.array([20, 40, 90])})
    >>> features = [SimpleNamespace(column="age", kind="number", **unset)]
    >>> encoders = fit_table(features, table, train_ids=[2, 1, 1])
    >>> encode_table(encoders, table, ids=[2, 7])["age"].values.tolist()
    [[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]

    Args:
      features: settings; the column "id" is the id itself, any other one of the table.
      table: the entities, whether in train or not.
      train_ids: ids of the training part.

    Raises:
      ValueError: the table has no such column; or see `feature_names` and `fit`. A DataError names the id.
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
    """Returns each feature of the entities: row 0 for an unknown one, which misses all, then one row for each id.

    Args:
      encoders: from `fit_table`, by name.
      table: the entities; an id that it lacks misses all features but "id".
      ids: raw ids in the order of the rows [n].

    Raises:
      ValueError: the table has no such column; a DataError, which names the id, where a value cannot be encoded.
    """
    ids = as_ids(ids, "ids")
    features = {}
    for name, encoder in encoders.items():
        present, values, weights = _read(table, encoder, ids)
        try:
            encoded = encoder.encode(values, weights)
        except RefusedValue as error:
            raise error.at(f"id {ids[present][error.row].item()!r}") from None
        positions = np.where(present, np.cumsum(present) - 1, -1)
        features[name] = encoded.spread(np.append(-1, positions))
    return features


def _read(
    table: Table, feature: FeatureSettings | Encoder, ids: Ids
) -> tuple[Bool[np.ndarray, "n"], Shaped[np.ndarray, "m ..."], Shaped[np.ndarray, "m"] | None]:
    """Returns which of the ids have the columns of a feature, and for these its values and weights."""
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
