"""Reading a bundle: each file once, verified, and all of them together consistent."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Shaped

from retrieval import index as index_lib
from retrieval.common import manifest as manifest_lib
from retrieval.common.folders import pinned
from retrieval.common.lists import Lists
from retrieval.data.sequences import Histories
from retrieval.data.vocabulary import Vocabulary
from retrieval.features.context import QueryContext
from retrieval.features.entities import EntityFeatures
from retrieval.index import Searcher
from retrieval.serving.bundle import layout
from retrieval.serving.bundle.manifest import MANIFEST, BundleFiles, read_manifest
from retrieval.serving.bundle.signature import check_signature
from retrieval.serving.bundle.stablehlo import InFewSizes, Tower, load_tower, stored
from retrieval.serving.recommender import Recommender

# raised by code that reads JSON whose values have other types than expected
_WRONG_TYPES = (TypeError, KeyError, IndexError, AttributeError, OverflowError, MemoryError)


def load(folder: pathlib.Path | str, *, verify_key: str | None = None) -> Recommender:
    """Verifies a bundle and returns its recommender.

    Every file is read once, in O(size) time, and its SHA-256 is compared with the manifest while other files are read.
    That detects damage, not forgery: load bundles only from people whom you trust, or with `verify_key`.

    Another bundle may take the place of this one meanwhile: one of the two is loaded, whole.

    Args:
      folder: the bundle.
      verify_key: a PEM file of the public key whose owner must have signed the bundle; None: nobody must.

    Raises:
      ValueError: the folder is no bundle, of another format version, or a file is missing, changed, not listed, or does
        not fit the others; or it is not signed by the key. The message names the file.
    """
    folder = pathlib.Path(folder)
    with pinned(folder) as place:
        files = BundleFiles.open(folder, place)
        if verify_key is not None:
            check_signature(folder, place, files.manifest, verify_key)
        try:
            return dataclasses.replace(read(files), folder=folder.absolute())
        except (ValueError, OSError):
            if read_manifest(folder) == files.manifest:
                raise
    return load(folder, verify_key=verify_key)


def load_unchanged(folder: str, expected: str) -> Recommender:
    """Loads a bundle whose manifest is still the one with a SHA-256, as a pickled `Recommender` asks for it.

    Raises:
      ValueError: another bundle has taken its place, or as of `load`.
    """
    recommender = load(folder)
    if manifest_lib.digest(recommender.manifest) != expected:
        raise ValueError(
            f"{folder} is another bundle than the one that was pickled: it was exported anew since; load it, and send "
            "that to the workers"
        )
    return recommender


def read(files: BundleFiles) -> Recommender:
    """Returns the recommender of a bundle whose manifest was read; see `load`."""
    files.check_names()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        files = dataclasses.replace(files, executor=pool)
        try:
            recommender = _read(files)
        except Exception:
            files.check_rest()  # if a file is damaged, that is the cause, and the more helpful error
            raise
        files.check_rest()
    return recommender


def _read(files: BundleFiles) -> Recommender:
    """Returns the recommender; the hashes of some files are compared only later, by `files.check_rest`."""
    files.check_later(layout.EMBEDDINGS)
    queries = _made(files, layout.QUERIES, Vocabulary.from_json, files.text)
    candidates = _made(files, layout.CANDIDATES, Vocabulary.from_json, files.text)
    corpus = _made(files, layout.CORPUS, layout.corpus_from_json, files.text)
    context = _made(files, layout.CONTEXT, QueryContext.from_json, files.text)
    index = _index(files, len(corpus))
    make = functools.partial(load_tower, array=functools.cache(functools.partial(_parameter, files)))
    towers = [_made(files, name, make, files.read) for name in (layout.QUERY_TOWER, layout.CANDIDATE_TOWER)]
    recommender = Recommender(
        encode=InFewSizes(towers[0]),
        index=index,
        queries=queries,
        candidates=candidates,
        corpus=corpus,
        seen=_lists(files, layout.SEEN_OFFSETS, layout.SEEN_ROWS, len(corpus)),
        encode_candidates=InFewSizes(towers[1]),
        context=context,
        histories=_histories(files, candidates.num_entities) if context.length else None,
        query_features=_features(files, "query", layout.QUERY_FEATURES),
        candidate_features=_features(files, "candidate", layout.CANDIDATE_FEATURES),
        similarity_dimension=files.manifest.get("similarity_dimension"),
        manifest=files.manifest,
    )
    _check_sizes(files, recommender)
    _check_towers(files, recommender, towers)
    return recommender


def _parameter(files: BundleFiles, name: str, shape: tuple[int, ...], dtype: np.dtype) -> Shaped[Array, "..."]:
    """Returns an array that towers read; `_read` caches it by name, so that both towers share it."""
    array = files.array_checked_later(layout.parameter_file(name))
    if array.shape != shape or array.dtype != stored(dtype):
        raise ValueError(f"{name} is {array.dtype} {array.shape}, the program reads {stored(dtype)} {shape}")
    return jax.device_put(array.view(dtype))


def _made(files: BundleFiles, name: str, make: Callable, content_of: Callable = str) -> Any:
    """Returns what `make` returns for the content of a file; its errors name the file."""
    content = content_of(name)
    try:
        return make(content)
    except RecursionError:
        raise ValueError(f"{files.folder / name} is nested too deeply") from None
    except ValueError as error:
        message = str(error).replace(str(files.place), str(files.folder))
        raise ValueError(f"{files.folder / name}: {message}") from None
    except _WRONG_TYPES as error:
        raise ValueError(f"{files.folder / name} holds what does not belong there: {error!r}"[:500]) from None


def _index(files: BundleFiles, number: int) -> Searcher:
    """Returns the index, which verifies its own arrays; by their hashes, its vectors are the stored embeddings."""
    folder = files.place / layout.INDEX
    index = _made(files, layout.INDEX, lambda _: index_lib.load(folder))
    files.check(f"{layout.INDEX}/{index_lib.RECORD_FILE}")
    digests = _made(files, layout.INDEX, lambda _: index_lib.digests(folder))
    for file, digest in digests.values():
        files.compare(f"{layout.INDEX}/{file}", digest)
    if digests["vectors"][1] != files.listed(layout.EMBEDDINGS).sha256:
        raise ValueError(f"{files.folder / layout.INDEX} is over other vectors than those of {layout.EMBEDDINGS}")
    if len(index) != number:
        raise ValueError(
            f"{files.folder / layout.EMBEDDINGS} has {len(index)} vectors, not one for each of {number} candidates"
        )
    return index


def _lists(files: BundleFiles, offsets_name: str, rows_name: str, size: int) -> Lists:
    """Returns lists of numbers below `size`."""
    offsets, rows = files.array(offsets_name), files.array(rows_name)
    sound = offsets.dtype == np.int64 and rows.dtype == np.int32 and offsets.ndim == rows.ndim == 1
    sound = (
        sound and len(offsets) > 0 and offsets[0] == 0 and offsets[-1] == len(rows) and (np.diff(offsets) >= 0).all()
    )
    if not (sound and 0 <= rows.min(initial=0) and rows.max(initial=-1) < size):
        raise ValueError(f"{files.folder / rows_name} is no list of numbers below {size} that {offsets_name} divides")
    return Lists(offsets, rows)


def _histories(files: BundleFiles, num_rows: int) -> Histories:
    """Returns the history of each query row, of candidate rows below `num_rows`, with ratings and times if listed."""
    lists = _lists(files, layout.HISTORY_OFFSETS, layout.HISTORY_ROWS, num_rows)
    columns = []
    for name, dtype in ((layout.HISTORY_RATINGS, np.float32), (layout.HISTORY_TIMES, np.int64)):
        column = files.array(name) if name in files.files else None
        if column is not None and (column.shape != lists.rows.shape or column.dtype != dtype):
            raise ValueError(f"{files.folder / name} is {column.dtype} {column.shape}, not one for each interaction")
        columns.append(column)
    return Histories(lists, *columns)


def _features(files: BundleFiles, side: str, name: str) -> EntityFeatures:
    """Returns the features of a side, "query" or "candidate": encoders from the file `name`, and encoded arrays."""
    stem = layout.feature_file(side, "")[: -len(".npy")]
    arrays = {
        file.removeprefix(stem).removesuffix(".npy"): files.array(file)
        for file in files.files
        if file.startswith(stem) and file.endswith(".npy")
    }
    return _made(files, name, lambda text: EntityFeatures.from_json(text, arrays), files.text)


def _check_sizes(files: BundleFiles, recommender: Recommender) -> None:
    """Raises ValueError unless each file about rows has as many rows as the vocabularies."""
    queries, candidates = recommender.queries.num_entities, recommender.candidates.num_entities
    sizes: list[tuple[str, object, object]] = [
        (layout.SEEN_OFFSETS, len(recommender.seen) >= queries, True),
        (layout.QUERY_FEATURES, recommender.query_features.num_rows or queries, queries),
        (layout.CANDIDATE_FEATURES, recommender.candidate_features.num_rows or candidates, candidates),
    ]
    if recommender.histories is not None:
        sizes.append((layout.HISTORY_OFFSETS, len(recommender.histories.lists), queries))
    for name, found, expected in sizes:
        if found != expected:
            raise ValueError(
                f"{files.folder / name} does not go with the other files that {MANIFEST} lists: got {found}, "
                f"expected {expected}; export the bundle again"
            )


def _check_towers(files: BundleFiles, recommender: Recommender, towers: Sequence[Tower]) -> None:
    """Raises ValueError unless the towers read the columns that are made for them, and return vectors of one size."""
    row = np.zeros(1, np.int32)
    context_columns = _made(files, layout.CONTEXT, lambda _: recommender.context.of_queries(Histories(Lists.empty(1))))
    query_columns = context_columns | recommender.query_features.of_rows(row)
    candidate_columns = recommender.candidate_features.of_rows(row)
    expected = (1, recommender.embeddings.shape[1])
    for name, tower, columns in zip(
        (layout.QUERY_TOWER, layout.CANDIDATE_TOWER), towers, (query_columns, candidate_columns), strict=True
    ):
        try:
            found = jax.eval_shape(tower, row, **columns).shape
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"{files.folder / name} does not read the columns {sorted(columns)}: {str(error)[:200]}"
            ) from None
        if found != expected:
            raise ValueError(f"{files.folder / name} makes embeddings of shape {found}, expected {expected}")
