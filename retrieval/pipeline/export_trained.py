"""The bundle of a trained model and its index, with exports for other systems."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np

from retrieval.config.schema import Config
from retrieval.data.dataset import Dataset
from retrieval.data.encoding import Encoding
from retrieval.data.interactions import Interactions, Table
from retrieval.data.sequences import Histories
from retrieval.data.vocabulary import UNKNOWN_ROW
from retrieval.features.entities import EntityFeatures
from retrieval.index import Searcher
from retrieval.pipeline.trained import Trained
from retrieval.serving import bundle
from retrieval.serving.exports import savedmodel
from retrieval.serving.exports.parquet import write_vectors
from retrieval.serving.recommender import Recommender

CANDIDATE_VECTORS, QUERY_VECTORS, SAVED_MODEL = "candidates.parquet", "queries.parquet", "saved_model"
QUERIES_A_CALL = 4096  # that the query tower embeds
NUM_RECOMMENDED = 100  # candidates that the SavedModel returns for a query


def export_trained(
    config: Config,
    dataset: Dataset,
    trained: Trained,
    index: Searcher,
    folder: pathlib.Path,
    *,
    metrics: Mapping[str, float],
    intervals: Mapping[str, tuple[float, float]],
    exports: Sequence[str] = (),
    sign_key: str | None = None,
) -> Recommender:
    """Writes the bundle of a trained model, and returns it, loaded; raises as `bundle.save` and `Trained.check_data`.

    Args:
      config: the experiment.
      dataset: its data; the histories of the bundle are those of train and validation.
      trained: the model.
      index: over the embeddings of the corpus.
      folder: of the bundle; its parent exists.
      metrics: what the manifest tells of the model's quality, by name.
      intervals: likewise of their intervals.
      exports: what is written for other systems into the bundle's folder `exports`, by the names in `EXPORTS`.
      sign_key: a PEM file of the private key that signs the bundle; None: it is not signed.
    """

    def write_exports(made: pathlib.Path, recommender: Recommender) -> None:
        for name in exports:
            EXPORTS[name](made, recommender, dataset.queries)

    trained.check_data(dataset)
    recipe, encoding = trained.recipe, trained.recipe.encoding
    before = dataset.parts.train_and_validation()
    queries = Table(encoding.queries.ids) if dataset.queries is None else dataset.queries
    query_features, candidate_features = recipe.architecture.query_features, recipe.architecture.candidate_features
    return bundle.save(
        folder,
        model=recipe.bound(trained.params),
        queries=encoding.queries,
        candidates=encoding.candidates,
        corpus=dataset.corpus,
        seen=encoding.seen_by_row(before),
        index=index,
        facts={
            "config": dataclasses.asdict(config),
            "data_fingerprint": dataset.fingerprint.sha256,
            "data_columns": dataset.fingerprint.to_record(),
            "figures": dict(metrics),
            "intervals": dict(intervals),
        },
        context=recipe.context,
        histories=histories_by_row(encoding, before) if recipe.context.length else None,
        query_features=EntityFeatures.of_table(query_features, queries, encoding.queries.entity_ids),
        candidate_features=EntityFeatures.of_table(candidate_features, dataset.corpus, encoding.candidates.entity_ids),
        dimension=config.model.embedding_dimension,
        examples=dataset.queries,
        exports=write_exports if exports else None,
        sign_key=sign_key,
    )


def histories_by_row(encoding: Encoding, before: Interactions) -> Histories:
    """Returns the history of each query row, in candidate rows and without dislikes; that of row 0 is empty."""
    before = encoding.without_dislikes(before)
    rows, candidate_rows = before.rows_in(encoding.queries, encoding.candidates)
    owners = np.where(rows == UNKNOWN_ROW, -1, rows)
    return Histories.of(owners, candidate_rows, before, encoding.queries.num_entities)


def write_parquet(folder: pathlib.Path, recommender: Recommender, queries: Table | None) -> None:
    """Writes the embeddings of the corpus, and of all queries that train knows, with their attributes.

    Args:
      folder: the exports of the bundle.
      recommender: the bundle.
      queries: attributes of the queries; None: there are none.
    """
    corpus, ids = recommender.corpus, recommender.queries.ids
    write_vectors(folder / CANDIDATE_VECTORS, corpus.ids, recommender.embeddings, corpus)
    pieces = [recommender.embed_queries(ids[i : i + QUERIES_A_CALL]) for i in range(0, len(ids), QUERIES_A_CALL)]
    write_vectors(folder / QUERY_VECTORS, ids, np.concatenate(pieces), queries)


def write_saved_model(folder: pathlib.Path, recommender: Recommender, queries: Table | None) -> None:
    """Writes a TensorFlow SavedModel of the bundle whose exports lie in `folder`."""
    savedmodel.from_bundle(folder.parent, folder / SAVED_MODEL, k=NUM_RECOMMENDED)


EXPORTS = {"parquet": write_parquet, "saved_model": write_saved_model}  # by name: what can be made of a bundle
