"""Writes a bundle to a scratch folder, has it answer golden queries, and moves it to its place in one step."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from retrieval.common.environment import versions
from retrieval.common.folders import scratch_folder
from retrieval.common.lists import Lists
from retrieval.common.npy import npy_chunks
from retrieval.common.storage import write_atomically, write_chunks
from retrieval.data.interactions import Table
from retrieval.data.sequences import Histories
from retrieval.data.vocabulary import Vocabulary
from retrieval.features.context import OF_TIMES, RATINGS, QueryContext
from retrieval.features.entities import EntityFeatures
from retrieval.index import Searcher
from retrieval.serving.bundle import golden, layout
from retrieval.serving.bundle.manifest import BundleFiles, read_manifest, write_manifest
from retrieval.serving.bundle.reading import read
from retrieval.serving.bundle.signature import read_private_key, sign
from retrieval.serving.bundle.stablehlo import export_towers
from retrieval.serving.bundle.swap import NEW, check_replaceable, place, recover
from retrieval.serving.recommender import Recommender

NO_ROWS = np.zeros(0, np.int32)


@runtime_checkable
class Towers(Protocol):
    """A trained model, as `retrieval.TwoTower`: a pytree, as Flax modules are, whose arrays lie beside its programs.

    The programs of one that is no pytree hold its arrays.
    """

    def query(self, rows: Int[Array, "B"], context: Mapping[str, Array], /) -> Float[Array, "B D"]:
        """Returns the embeddings of query rows, in the context of columns by name."""

    def candidate(self, rows: Int[Array, "B"], context: Mapping[str, Array], /) -> Float[Array, "B D"]:
        """Returns the embeddings of candidate rows, likewise."""


def save(
    folder: pathlib.Path | str,
    *,
    model: Towers,
    queries: Vocabulary,
    candidates: Vocabulary,
    corpus: Table,
    seen: Lists,
    index: Searcher,
    facts: Mapping[str, Any],
    context: QueryContext | None = None,
    histories: Histories | None = None,
    query_features: EntityFeatures | None = None,
    candidate_features: EntityFeatures | None = None,
    dimension: int | None = None,
    examples: Table | None = None,
    exports: Callable[[pathlib.Path, Recommender], None] | None = None,
    sign_key: str | None = None,
) -> Recommender:
    """Writes a bundle and returns it as it was read back.

    The new bundle takes the place of the one at `folder` once it is whole and has answered its golden queries.
    At each instant `folder` is a whole bundle, see `replace_folder`; the one before stays as `previous`,
    and `roll_back` brings it back. The next call deletes what a killed process left. Heads of the model are not
    written.

    Args:
      folder: destination; its parent exists.
      model: the trained model.
      queries: vocabulary of the query tower's rows.
      candidates: vocabulary of the candidate tower's rows.
      corpus: all candidates, in the order of the index.
      seen: positions in the corpus of the candidates that each query row has in train.
      index: over the embeddings of the corpus.
      facts: further entries of the manifest: config, data fingerprint, metrics.
      context: makes the columns that the query tower reads; None: the tower reads the rows alone.
      histories: history of each query row in train, empty for row 0; the last interactions, as many as the query tower
        reads, are written. None: the query tower reads none.
      query_features: features that the query tower reads from the table of queries; None: none.
      candidate_features: features that the candidate tower reads from the corpus; None: none.
      dimension: number of leading columns of the embeddings that `similar` compares; popularity is in the others. None:
        all columns.
      examples: queries with raw features, some of which become golden queries; None: no golden query has features.
      exports: writes formats of other systems; receives the folder `exports` of the whole new bundle, which is moved to
        its place together with them, and the bundle as it was read back. None: nothing is exported.
      sign_key: a PEM file of the private key that signs the bundle; None: it is not signed.

    Raises:
      ValueError: the query tower reads histories and none are given, or the reverse; the parts do not belong together;
        `folder` exists and is no bundle; or the file holds no key.
      OSError: the folder cannot be written, as on a full disk; `folder` is unchanged.
    """
    folder = pathlib.Path(folder)
    check_replaceable(folder)
    key = None if sign_key is None else read_private_key(sign_key)
    context = QueryContext() if context is None else context
    if bool(context.length) != (histories is not None):
        reads = f"histories of {context.length} interactions" if context.length else "no histories"
        raise ValueError(f"the query tower reads {reads}, received {'none' if histories is None else 'some'}")
    features = {"query": query_features or EntityFeatures(), "candidate": candidate_features or EntityFeatures()}
    texts = {
        layout.QUERIES: queries.to_json(),
        layout.CANDIDATES: candidates.to_json(),
        layout.CORPUS: layout.corpus_to_json(corpus),
        layout.CONTEXT: context.to_json(),
        layout.QUERY_FEATURES: features["query"].to_json(),
        layout.CANDIDATE_FEATURES: features["candidate"].to_json(),
    }
    arrays = _arrays_of(index, seen, features) | ({} if histories is None else _arrays_of_histories(histories, context))
    whole = index.embeddings.shape[1]
    facts = {"similarity_dimension": whole if dimension is None else dimension, "versions": versions(), **facts}
    recover(folder)
    with scratch_folder(folder) as scratch:
        new = scratch / NEW
        new.mkdir()
        programs, parameters = _programs(model, context, features)
        for name, program in programs.items():
            write_chunks(new / name, [program])
        for name, text in texts.items():
            write_atomically(new / name, text)
        for name, array in (arrays | parameters).items():
            write_chunks(new / name, npy_chunks(array))
        index.save(new / layout.INDEX)
        recommender = _with_golden_answers(new, facts, examples)
        if key is not None:
            sign(new, recommender.manifest, key)
        if exports is not None:
            (new / layout.EXPORTS).mkdir()
            exports(new / layout.EXPORTS, recommender)
        place(new, folder)
    return dataclasses.replace(recommender, folder=folder.absolute())


def _with_golden_answers(folder: pathlib.Path, facts: Mapping[str, Any], examples: Table | None) -> Recommender:
    """Reads the parts of a new bundle back, adds its answers to golden queries and the manifest, and returns it."""
    write_manifest(folder, facts)
    recommender = read(BundleFiles.open(folder))
    answers = golden.ask(recommender, examples)
    write_atomically(folder / layout.GOLDEN, json.dumps(answers, ensure_ascii=False, allow_nan=False))
    write_manifest(folder, facts)
    return dataclasses.replace(recommender, manifest=read_manifest(folder))


def _programs(
    model: Towers, context: QueryContext, features: Mapping[str, EntityFeatures]
) -> tuple[dict[str, bytes], dict[str, np.ndarray]]:
    """Returns the programs of both towers and their parameters, by file; `features` are by side."""
    query_columns = context.of_queries(Histories(Lists.empty(0))) | features["query"].of_rows(NO_ROWS)
    candidate_columns = features["candidate"].of_rows(NO_ROWS)
    programs, parameters = export_towers(
        {
            layout.QUERY_TOWER: (Partial(_embed_queries, model), query_columns),
            layout.CANDIDATE_TOWER: (Partial(_embed_candidates, model), candidate_columns),
        }
    )
    return programs, {layout.parameter_file(name): array for name, array in parameters.items()}


def _embed_queries(model: Towers, rows: Int[Array, "B"], **columns: Array) -> Float[Array, "B D"]:
    """The query tower as a function of rows, and columns by keyword, as programs take them."""
    return model.query(rows, columns)


def _embed_candidates(model: Towers, rows: Int[Array, "B"], **columns: Array) -> Float[Array, "B D"]:
    """The candidate tower, likewise."""
    return model.candidate(rows, columns)


def _arrays_of(index: Searcher, seen: Lists, features: Mapping[str, EntityFeatures]) -> dict[str, np.ndarray]:
    """Returns the embeddings, the seen candidates of each query, and the columns of the features, by file."""
    arrays = {layout.EMBEDDINGS: index.embeddings, layout.SEEN_OFFSETS: seen.offsets, layout.SEEN_ROWS: seen.rows}
    for side, side_features in features.items():
        arrays |= {layout.feature_file(side, name): array for name, array in side_features.arrays().items()}
    return arrays


def _arrays_of_histories(histories: Histories, context: QueryContext) -> dict[str, np.ndarray]:
    """Returns the last interactions of each history, with the columns that the query tower reads, by file."""
    lists, length = histories.lists, context.length
    kept = np.arange(len(lists.rows)) >= np.repeat(lists.offsets[1:] - length, lists.lengths)
    offsets = np.concatenate([[0], np.cumsum(np.minimum(lists.lengths, length))]).astype(np.int64)
    arrays = {layout.HISTORY_OFFSETS: offsets, layout.HISTORY_ROWS: lists.rows[kept]}
    if histories.ratings is not None and RATINGS in context.names:
        arrays[layout.HISTORY_RATINGS] = histories.ratings[kept]
    if histories.times is not None and OF_TIMES & set(context.names):
        arrays[layout.HISTORY_TIMES] = histories.times[kept]
    return arrays
