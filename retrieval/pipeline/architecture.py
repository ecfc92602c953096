"""From the config's `model` section to the two towers, and to the columns that the query tower reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int64

from retrieval.config import schema as config_lib
from retrieval.data.encoding import Encoding
from retrieval.data.interactions import Interactions, Table
from retrieval.data.vocabulary import Vocabulary
from retrieval.features import Encoder, Spec, encode_table, feature_names, fit, fit_table
from retrieval.features.context import AGES, QueryContext, num_rating_rows
from retrieval.models import history
from retrieval.models.feature_inputs import ID, FeatureInput
from retrieval.models.feature_tower import FeatureTower
from retrieval.models.heads import Head
from retrieval.models.history_tower import HistoryTower, LastEmbedding
from retrieval.models.two_tower import TwoTower

PRECISIONS = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
COVERED, LENGTHS = 0.9, (10, 200)  # the share of histories that an automatic length holds whole, and its limits
TIMESTAMP = "timestamp"  # the column that is the time of the request


@dataclasses.dataclass(frozen=True)
class Architecture:
    """A model, and what turns raw values into what it reads.

    Attributes:
      model: the two towers, with initial parameters.
      context: makes the columns that the query tower reads.
      query_features: encoders of the columns of the queries' table, by the feature's name.
      candidate_features: likewise of the candidates'.
    """

    model: TwoTower
    context: QueryContext
    query_features: Mapping[str, Encoder]
    candidate_features: Mapping[str, Encoder]


def create(
    model: config_lib.Model,
    encoding: Encoding,
    train: Interactions,
    queries: Table | None,
    *,
    log_prior: Float[np.ndarray, "N"] | None,
    heads: Mapping[str, Head],
    seed: int,
) -> Architecture:
    """Creates the towers that the config describes, with the statistics of train.

    Args:
      model: the section of the config.
      encoding: vocabularies, and the corpus, which is the candidates' table.
      train: the training part.
      queries: the queries' table, or None.
      log_prior: the log-probability of each candidate row in train; None: no prior.
      heads: what the model predicts besides, by name.
      seed: of the initial values.

    Raises:
      ValueError: a setting does not exist, or a feature's column is not there.
    """
    maker = _Maker(model, PRECISIONS[model.precision], nnx.Rngs(seed))
    requests, static = _split_by_time(model.query.features)
    time_encoders = _fit_times(requests, train)
    queries = Table(encoding.queries.ids) if queries is None else queries
    query_features = _fit_features(static, queries, encoding.queries)
    candidate_features = _fit_features(model.candidate.features, encoding.corpus, encoding.candidates)
    query_tower = maker.tower(model.query, encoding.queries, queries, query_features, time_encoders)
    candidate_tower = maker.tower(model.candidate, encoding.candidates, encoding.corpus, candidate_features, {})
    if candidate_tower is None:
        raise ValueError("model.candidate.features is empty: a candidate tower needs at least one")
    length = _length(model.history, train) if model.history.encoder else 0
    if length:
        of_data = encoding.candidates, train, length
        query_tower = maker.history(model.history, query_tower, candidate_tower, *of_data)
    if query_tower is None:
        raise ValueError(
            "model.query.features is empty and there is no model.history.encoder: the query tower is empty"
        )
    two_tower = TwoTower(
        query_tower,
        candidate_tower,
        _of_entities(log_prior, encoding.candidates),
        num_biases=encoding.candidates.num_entities if model.candidate_bias else 0,
        temperature=model.temperature or None,
        heads=heads,
    )
    context = _context(two_tower.context, length, time_encoders, train, encoding.candidates)
    return Architecture(two_tower, context, query_features, candidate_features)


@dataclasses.dataclass(frozen=True)
class _Maker:
    """Makes towers with what they have in common."""

    model: config_lib.Model
    dtype: jnp.dtype | type
    rngs: nnx.Rngs

    @property
    def common(self):
        return {"initial_scale": self.model.initial_scale, "dtype": self.dtype, "rngs": self.rngs}

    def tower(
        self,
        tower: config_lib.Tower,
        vocabulary: Vocabulary,
        table: Table,
        encoders: Mapping[str, Encoder],
        time_encoders: Mapping[str, Encoder],
    ) -> FeatureTower | None:
        """Returns the tower over the features of a table and of the request's time; None where it has none."""
        if not tower.features:
            return None
        encoded = encode_table(encoders, table, vocabulary.entity_ids)
        inputs, names, times = {}, iter(encoders), iter(time_encoders)
        for feature in tower.features:
            settings = feature.dimension, feature.dropout
            if is_row(feature):
                inputs[ID] = FeatureInput(Spec(vocabulary.num_rows, 1, "mean"), *settings)
            elif feature.column == TIMESTAMP and time_encoders:
                name = next(times)
                inputs[name] = FeatureInput(time_encoders[name].spec, *settings)
            else:
                name = next(names)
                inputs[name] = FeatureInput(encoders[name].spec, *settings, encoded[name])
        return FeatureTower(
            inputs,
            num_entities=vocabulary.num_entities,
            dimension=self.model.embedding_dimension,
            combine=tower.combine,
            hidden_sizes=tower.mlp.hidden_sizes,
            dropout=tower.mlp.dropout,
            cross_layers=tower.cross.layers,
            cross_rank=tower.cross.rank,
            **self.common,
        )

    def history(
        self,
        settings: config_lib.History,
        features: FeatureTower | None,
        candidate_tower: FeatureTower,
        candidates: Vocabulary,
        train: Interactions,
        length: int,
    ) -> HistoryTower:
        """Returns the tower over histories, and over the features where there are any."""
        for name, column in (("ratings", train.ratings), ("gaps", train.timestamps), ("ages", train.timestamps)):
            if name in settings.inputs and column is None:
                raise ValueError(
                    f"model.history.inputs has {name!r}, and the interactions have none; name their column"
                )
        dimension, of_kind = self.model.embedding_dimension, {"dtype": self.dtype, "rngs": self.rngs}
        table = {"dropout": settings.dropout, **self.common}
        reads_times = history.ENCODERS[settings.encoder].reads_times and train.timestamps is not None
        tokens = history.Tokens(
            dimension,
            num_ratings=num_rating_rows(_top_rating(train)) if "ratings" in settings.inputs else 0,
            gaps="gaps" in settings.inputs,
            ages="ages" in settings.inputs,
            dropout=settings.dropout,
            **of_kind,
        )
        encoder = history.create(
            settings.encoder,
            dimension,
            length=length,
            layers=settings.layers,
            heads=settings.heads,
            dropout=settings.dropout,
            visible=settings.visible,
            **of_kind,
        )
        last = LastEmbedding(candidates.num_rows, dimension, **table) if settings.last else None
        beside = {"last": last, "features": features, "reads_times": reads_times}
        return HistoryTower(candidate_tower, candidates.num_entities, tokens, encoder, **beside)


def is_row(feature: config_lib.Feature) -> bool:
    """Returns whether a feature is the row of the entity itself: its id, neither hashed nor a number."""
    return feature.column == ID and feature.kind == "category" and not feature.hashes


def reads_table(tower: config_lib.Tower) -> bool:
    """Returns whether a tower has features that tell of entities that train has not seen."""
    return any(not is_row(feature) and feature.column != TIMESTAMP for feature in tower.features)


def _fit_features(features: Sequence[config_lib.Feature], table: Table, vocabulary: Vocabulary) -> dict[str, Encoder]:
    """Returns the encoders of all features but the row; one of the id has another name than that."""
    rows = [feature for feature in features if is_row(feature)]
    if len(rows) > 1:
        raise ValueError(f"feature {ID!r} is there {len(rows)} times; leave it once")
    encoders = fit_table([feature for feature in features if not is_row(feature)], table, vocabulary.ids)
    return {f"{ID}/{encoder.kind}" if name == ID else name: encoder for name, encoder in encoders.items()}


def _split_by_time(
    features: Sequence[config_lib.Feature],
) -> tuple[list[config_lib.Feature], list[config_lib.Feature]]:
    """Returns the features of the request's time, and those of the table."""
    return [f for f in features if f.column == TIMESTAMP], [f for f in features if f.column != TIMESTAMP]


def _fit_times(features: Sequence[config_lib.Feature], train: Interactions) -> dict[str, Encoder]:
    if features and train.timestamps is None:
        raise ValueError("a feature of the query tower is the timestamp, and the interactions have none")
    names = feature_names(features)
    return {name: fit(feature, train.timestamps) for name, feature in zip(names, features, strict=True)}


def _length(settings: config_lib.History, train: Interactions) -> int:
    """Returns how many interactions a history has at most."""
    if settings.length:
        return settings.length
    numbers = np.unique(train.query_ids, return_counts=True)[1]
    return int(np.clip(np.ceil(np.quantile(numbers, COVERED)), *LENGTHS)) if len(numbers) else LENGTHS[0]


def _context(
    names: tuple[str, ...], length: int, encoders: Mapping[str, Encoder], train: Interactions, candidates: Vocabulary
) -> QueryContext:
    """Returns what makes the columns of these names, with what it needs to know of train."""
    times = train.timestamps if train.timestamps is not None and len(train) else np.zeros(1, np.int64)
    return QueryContext(
        names=names,
        length=length,
        encoders=encoders,
        now=int(times.max()),
        start=int(times.min()),
        top_rating=_top_rating(train),
        **({"appeared": _appeared(train, candidates)} if AGES in names else {}),
    )


def _top_rating(train: Interactions) -> float:
    return float(np.nanmax(train.ratings, initial=0.0)) if train.ratings is not None else 0.0


def _appeared(train: Interactions, candidates: Vocabulary) -> Int64[np.ndarray, "V"]:
    """Returns the first time of each candidate row in train, -1 where it has none."""
    never = np.iinfo(np.int64).max
    first = np.full(candidates.num_rows, never)
    np.minimum.at(first, candidates.rows(train.candidate_ids), train.timestamps)
    return np.where(first == never, -1, first)


def _of_entities(log_prior: Float[np.ndarray, "N"] | None, candidates: Vocabulary) -> Float[np.ndarray, "M"] | None:
    """Returns the prior of each entity row: one that train does not know has that of the unknown row."""
    if log_prior is None or not len(candidates.others):
        return log_prior
    return np.concatenate([log_prior, np.full(len(candidates.others), log_prior[0], log_prior.dtype)])
