"""Makes the `model` section of a config into the two towers, and into the columns that the query tower reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int64

from retrieval.config import schema as config_lib
from retrieval.data.encoding import Encoding
from retrieval.data.interactions import Interactions, Table
from retrieval.data.vocabulary import Vocabulary
from retrieval.features import Encoder, Spec, encode_table
from retrieval.features.context import AGES, QueryContext, num_rating_rows
from retrieval.models import history
from retrieval.models.feature_inputs import ID, FeatureInput
from retrieval.models.feature_tower import FeatureTower
from retrieval.models.heads import Head
from retrieval.models.history_tower import HistoryTower, LastEmbedding
from retrieval.models.two_tower import TwoTower
from retrieval.pipeline.feature_encoders import TIMESTAMP, fit_features, fit_times, is_row, split_by_time

PRECISIONS = {  # type of the parameters, and precision of products of float32 inside the towers
    "float32": (jnp.float32, "highest"),
    "tensorfloat32": (jnp.float32, "tensorfloat32"),
    "bfloat16": (jnp.bfloat16, "highest"),
}
COVERED, LENGTHS = 0.9, (10, 200)  # the share of histories that an automatic length holds whole, and its limits


@dataclasses.dataclass(frozen=True)
class Architecture:
    """The towers, and the encoders of raw values into the columns that they read.

    Attributes:
      model: the two towers, with initial parameters.
      context: the maker of the columns that the query tower reads of a request: histories and times.
      query_features: encoders of the columns of the queries' table, by the feature's name.
      candidate_features: encoders of the columns of the candidates' table, likewise.
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
    """Creates the towers that the config describes, with encoders that are fitted on train.

    Args:
      model: the section of the config.
      encoding: vocabularies, and the corpus, which is the candidates' table.
      train: the training part.
      queries: the queries' table; None: there is none.
      log_prior: the score at which each candidate row starts, its log-probability in train times the temperature of
        the loss [N]; None: no prior is added.
      heads: the heads of the model, by the name of the task.
      seed: of the initial parameters.

    Raises:
      ValueError: a tower is empty, or the data lack a column that it reads.
    """
    dtype, precision = PRECISIONS[model.precision]
    maker = _Maker(model, dtype, nnx.Rngs(seed))
    requests, static = split_by_time(model.query.features)
    time_encoders = fit_times(requests, train)
    queries = Table(encoding.queries.ids) if queries is None else queries
    query_features = fit_features(static, queries, encoding.queries)
    candidate_features = fit_features(model.candidate.features, encoding.corpus, encoding.candidates)
    query_tower = maker.tower(model.query, encoding.queries, queries, query_features, time_encoders)
    candidate_tower = maker.tower(model.candidate, encoding.candidates, encoding.corpus, candidate_features, {})
    if candidate_tower is None:
        raise ValueError("model.candidate.features is empty: a candidate tower needs at least one")
    length = _length(model.history, train) if model.history.encoder else 0
    if length:
        query_tower = maker.history(
            model.history, query_tower, candidate_tower, encoding.candidates, train, length=length
        )
    if query_tower is None:
        raise ValueError(
            "model.query.features and model.history.encoder are empty: a query tower needs one of them at least"
        )
    two_tower = TwoTower(
        query_tower,
        candidate_tower,
        _prior_of_entities(log_prior, encoding.candidates),
        num_biases=encoding.candidates.num_entities if model.candidate_bias else 0,
        temperature=model.temperature or None,
        heads=heads,
        precision=precision,
    )
    context = _context(two_tower.context, length, time_encoders, train, encoding.candidates)
    return Architecture(two_tower, context, query_features, candidate_features)


@dataclasses.dataclass(frozen=True)
class _Maker:
    """Makes towers that share the dimension, precision and random numbers of a model."""

    model: config_lib.Model
    dtype: jnp.dtype | type
    rngs: nnx.Rngs

    @property
    def common(self):
        """Keyword arguments of every module with embedding tables."""
        return {"initial_scale": self.model.initial_scale, "dtype": self.dtype, "rngs": self.rngs}

    def tower(
        self,
        tower: config_lib.Tower,
        vocabulary: Vocabulary,
        table: Table,
        encoders: Mapping[str, Encoder],
        time_encoders: Mapping[str, Encoder],
    ) -> FeatureTower | None:
        """Returns the tower over features of a table and of the request's time; None if it has no features."""
        if not tower.features:
            return None
        encoded = encode_table(encoders, table, vocabulary.entity_ids)
        inputs, names, times = {}, iter(encoders), iter(time_encoders)
        for feature in tower.features:
            options = 0, feature.dropout  # of the dimension of the tower
            if is_row(feature):
                inputs[ID] = FeatureInput(Spec(vocabulary.num_rows, 1, "mean"), *options)
            elif feature.column == TIMESTAMP and time_encoders:
                name = next(times)
                inputs[name] = FeatureInput(time_encoders[name].spec, *options)
            else:
                name = next(names)
                inputs[name] = FeatureInput(encoders[name].spec, *options, encoded[name])
        return FeatureTower(
            inputs,
            num_entities=vocabulary.num_entities,
            dimension=self.model.embedding_dimension,
            hidden_sizes=tower.mlp.hidden_sizes,
            dropout=tower.mlp.dropout,
            cross_layers=tower.cross.layers,
            cross_rank=tower.cross.rank,
            **self.common,
        )

    def history(
        self,
        section: config_lib.History,
        features: FeatureTower | None,
        candidate_tower: FeatureTower,
        candidates: Vocabulary,
        train: Interactions,
        *,
        length: int,
    ) -> HistoryTower:
        """Returns the query tower over histories of at most `length` interactions, and over features if given."""
        for name, column in (("ratings", train.ratings), ("gaps", train.timestamps), ("ages", train.timestamps)):
            if name in section.inputs and column is None:
                raise ValueError(
                    f"model.history.inputs has {name!r}, which needs a column that the interactions lack; name it in "
                    "data.columns, or remove the input"
                )
        dimension, kind = self.model.embedding_dimension, {"dtype": self.dtype, "rngs": self.rngs}
        reads_times = history.ENCODERS[section.encoder].reads_times and train.timestamps is not None
        tokens = history.Tokens(
            dimension,
            num_ratings=num_rating_rows(_top_rating(train)) if "ratings" in section.inputs else 0,
            gaps="gaps" in section.inputs,
            ages="ages" in section.inputs,
            dropout=section.dropout,
            **kind,
        )
        encoder = history.create(
            section.encoder,
            dimension,
            length=length,
            layers=section.layers,
            heads=section.heads,
            dropout=section.dropout,
            visible=section.visible,
            **kind,
        )
        last = None
        if section.last:
            last = LastEmbedding(candidates.num_rows, dimension, dropout=section.dropout, **self.common)
        return HistoryTower(
            candidate_tower,
            candidates.num_entities,
            tokens,
            encoder,
            last=last,
            features=features,
            reads_times=reads_times,
        )


def _length(section: config_lib.History, train: Interactions) -> int:
    """Returns the number of interactions that the query tower reads at most."""
    if section.length:
        return section.length
    numbers = np.unique(train.query_ids, return_counts=True)[1]
    return int(np.clip(np.ceil(np.quantile(numbers, COVERED)), *LENGTHS)) if len(numbers) else LENGTHS[0]


def _context(
    names: tuple[str, ...], length: int, encoders: Mapping[str, Encoder], train: Interactions, candidates: Vocabulary
) -> QueryContext:
    """Returns the maker of the columns of these names, with the statistics of train that it needs."""
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
    """Returns the first time of each candidate row in train; -1 for rows without interactions."""
    never = np.iinfo(np.int64).max
    first = np.full(candidates.num_rows, never)
    np.minimum.at(first, candidates.rows(train.candidate_ids), train.timestamps)
    return np.where(first == never, -1, first)


def _prior_of_entities(
    log_prior: Float[np.ndarray, "N"] | None, candidates: Vocabulary
) -> Float[np.ndarray, "M"] | None:
    """Returns the prior of each entity row; entities unseen in train get the prior of the unknown row."""
    if log_prior is None or not len(candidates.others):
        return log_prior
    return np.concatenate([log_prior, np.full(len(candidates.others), log_prior[0], log_prior.dtype)])
