"""What leaves the lab: one folder with the towers, vocabularies, corpus, embeddings and index, verified on load.

Loading needs jax, numpy and hnswlib, and none of the model's code: the towers are StableHLO programs. A query tower is
served with all that it reads: features of the queries' table are in its program; the histories of train, and what
encodes the time of a request, lie beside it.
"""

from __future__ import annotations

import json
import pathlib
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export
from jaxtyping import Array, Float, Int

from retrieval.context import OF_TIMES, RATINGS, Columns, QueryContext
from retrieval.data.interactions import Table
from retrieval.data.sequences import Histories
from retrieval.data.vocabulary import Vocabulary
from retrieval.index import HnswIndex
from retrieval.lists import Lists
from retrieval.logs import versions
from retrieval.recommend import Encode, Recommender
from retrieval.storage import replace_folder, sha256, write_json

FORMAT_VERSION = 2
PLATFORMS = ("cpu", "cuda", "tpu")
QUERY_TOWER, CANDIDATE_TOWER = "query_tower.stablehlo", "candidate_tower.stablehlo"
QUERIES, CANDIDATES, CORPUS = "query_vocabulary.json", "candidate_vocabulary.json", "corpus.json"
CONTEXT = "query_context.json"
EMBEDDINGS, SEEN_OFFSETS, SEEN_ROWS = "candidate_embeddings.npy", "seen_offsets.npy", "seen_rows.npy"
HISTORY_OFFSETS, HISTORY_ROWS = "history_offsets.npy", "history_rows.npy"
HISTORY_RATINGS, HISTORY_TIMES = "history_ratings.npy", "history_times.npy"
MANIFEST = "manifest.json"

Tower = Callable[..., Float[Array, "B D"]]


@runtime_checkable
class Towers(Protocol):
    """A trained model, as `retrieval.TwoTower`."""

    def query(self, rows: Int[Array, "B"], context: Mapping[str, Array], /) -> Float[Array, "B D"]:
        """Returns the embeddings of query rows, in the context of columns by name."""

    def candidate(self, rows: Int[Array, "B"], /) -> Float[Array, "B D"]:
        """Returns the embeddings of candidate rows."""


def export_tower(tower: Tower, columns: Columns | None = None) -> bytes:
    """Returns a tower as a serialised StableHLO program for cpu, cuda and tpu, of any batch size.

    Args:
      tower: rows [B], and columns by name as keyword arguments -> embeddings [B, D].
      columns: such as it reads, of any number of examples; the program takes those of these names, types and shapes.
    """
    (size,) = jax_export.symbolic_shape("batch")
    like = {
        name: jax.ShapeDtypeStruct((size, *column.shape[1:]), column.dtype) for name, column in (columns or {}).items()
    }
    program = jax_export.export(
        jax.jit(lambda rows, **context: tower(rows, **context).astype(jnp.float32)), platforms=PLATFORMS
    )
    return bytes(program(jax.ShapeDtypeStruct((size,), jnp.int32), **like).serialize())


def load_tower(path: pathlib.Path) -> Tower:
    """Returns the function that `export_tower` serialised; needs no model code."""
    program = jax_export.deserialize(bytearray(path.read_bytes()))
    return jax.jit(program.call)


def save(
    folder: pathlib.Path,
    *,
    model: Towers,
    queries: Vocabulary,
    candidates: Vocabulary,
    corpus: Table,
    seen: Lists,
    index: HnswIndex,
    facts: Mapping[str, Any],
    context: QueryContext | None = None,
    histories: Histories | None = None,
) -> None:
    """Writes a bundle, replacing one that is there once the new one is whole. Heads of the model stay behind.

    Args:
      folder: where; its parent exists.
      model: the trained model.
      queries: vocabulary of the query tower's rows.
      candidates: vocabulary of the candidate tower's rows.
      corpus: all candidates, in the order of the index.
      seen: positions in the corpus of what each query row has in train.
      index: over the embeddings of the corpus.
      facts: what else the manifest records: config, data fingerprint, figures.
      context: makes the columns that the query tower reads; None: it reads the rows alone.
      histories: what each query row did in train, row 0 nothing; of each the last interactions that the query tower
        reads are kept. None: it reads none.

    Raises:
      ValueError: the query tower reads histories and there are none, or the reverse.
    """
    context = QueryContext() if context is None else context
    if bool(context.length) != (histories is not None):
        reads = f"histories of {context.length} interactions" if context.length else "no histories"
        raise ValueError(f"the query tower reads {reads}, received {'none' if histories is None else 'some'}")
    columns = context.of_queries(Histories(Lists.empty(1)))
    arrays = {EMBEDDINGS: index.embeddings, SEEN_OFFSETS: seen.offsets, SEEN_ROWS: seen.rows}
    if histories is not None:
        arrays |= _arrays_of(histories, context)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new = pathlib.Path(scratch) / "new"
        new.mkdir()
        (new / QUERY_TOWER).write_bytes(export_tower(lambda rows, **of: model.query(rows, of), columns))
        (new / CANDIDATE_TOWER).write_bytes(export_tower(model.candidate))
        (new / QUERIES).write_text(queries.to_json(), encoding="utf-8")
        (new / CANDIDATES).write_text(candidates.to_json(), encoding="utf-8")
        (new / CORPUS).write_text(_corpus_to_json(corpus), encoding="utf-8")
        (new / CONTEXT).write_text(context.to_json(), encoding="utf-8")
        for name, array in arrays.items():
            np.save(new / name, array, allow_pickle=False)
        index.save(new)
        files = {path.name: sha256(path) for path in sorted(new.iterdir())}
        write_json(
            new / MANIFEST,
            {"format_version": FORMAT_VERSION, "files": files, "versions": versions(), **facts},
        )
        replace_folder(new, folder)


def load(folder: pathlib.Path | str) -> Recommender:
    """Verifies a bundle and returns it ready to answer queries from its index.

    Raises:
      ValueError: the folder is no bundle, of another format version, or a file is missing or changed.
    """
    folder = pathlib.Path(folder)
    files = verify(folder)["files"]

    def text(name):
        return (folder / name).read_text(encoding="utf-8")

    def array(name):
        return np.load(folder / name, allow_pickle=False) if name in files else None

    context, histories = QueryContext.from_json(text(CONTEXT)), None
    if context.length:
        lists = Lists(array(HISTORY_OFFSETS), array(HISTORY_ROWS))
        histories = Histories(lists, array(HISTORY_RATINGS), array(HISTORY_TIMES))
    return Recommender(
        encode=_in_few_sizes(load_tower(folder / QUERY_TOWER)),
        search=HnswIndex.load(folder).search,
        queries=Vocabulary.from_json(text(QUERIES)),
        candidates=Vocabulary.from_json(text(CANDIDATES)),
        corpus=_corpus_from_json(text(CORPUS)),
        seen=Lists(array(SEEN_OFFSETS), array(SEEN_ROWS)),
        context=context,
        histories=histories,
    )


def verify(folder: pathlib.Path) -> dict[str, Any]:
    """Returns the manifest of a bundle whose files all have the hashes that it lists.

    Raises:
      ValueError: as `load`.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise ValueError(f"{folder} is no bundle: it has no {MANIFEST}; experiments.export writes one")
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        version, files = manifest["format_version"], dict(manifest["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error!r}); export the bundle again") from None
    if version != FORMAT_VERSION:
        raise ValueError(f"{folder} has bundle format {version}, this version reads {FORMAT_VERSION}; export it again")
    for name, expected in files.items():
        file = folder / name
        if file.parent != folder or not file.is_file():
            raise ValueError(f"{folder} lacks {name!r}, which its {MANIFEST} lists; export the bundle again")
        if (found := sha256(file)) != expected:
            raise ValueError(
                f"{file} has changed since the export (SHA-256 {found[:12]}, expected {expected[:12]}); "
                "export the bundle again"
            )
    return manifest


def _in_few_sizes(tower: Tower) -> Encode:
    """Returns the tower for batches of any size, none included, which are padded to powers of two.

    It is compiled anew for each size that it gets.
    """

    def encode(rows, **columns):
        number = len(rows)
        missing = (1 << max(number - 1, 0).bit_length()) - number
        padded = {
            name: np.concatenate([column, np.zeros((missing, *column.shape[1:]), column.dtype)])
            for name, column in {"": rows, **columns}.items()
        }
        return np.asarray(tower(padded.pop(""), **padded))[:number]

    return encode


def _arrays_of(histories: Histories, context: QueryContext) -> dict[str, np.ndarray]:
    """Returns the last interactions of each history, in the columns that the query tower reads, by file."""
    lists, length = histories.lists, context.length
    kept = np.arange(len(lists.rows)) >= np.repeat(lists.offsets[1:] - length, lists.lengths)
    offsets = np.concatenate([[0], np.cumsum(np.minimum(lists.lengths, length))]).astype(np.int64)
    arrays = {HISTORY_OFFSETS: offsets, HISTORY_ROWS: lists.rows[kept]}
    if histories.ratings is not None and RATINGS in context.names:
        arrays[HISTORY_RATINGS] = histories.ratings[kept]
    if histories.times is not None and OF_TIMES & set(context.names):
        arrays[HISTORY_TIMES] = histories.times[kept]
    return arrays


def _corpus_to_json(corpus: Table) -> str:
    columns = {name: column.tolist() for name, column in corpus.columns.items()}
    return json.dumps({"ids": corpus.ids.tolist(), "columns": columns}, ensure_ascii=False)


def _corpus_from_json(text: str) -> Table:
    content = json.loads(text)
    return Table(np.asarray(content["ids"]), {k: np.asarray(v) for k, v in content["columns"].items()})
