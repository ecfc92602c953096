"""What leaves the lab: one folder with the towers, vocabularies, corpus, embeddings and index, verified on load.

Loading needs jax, numpy and hnswlib, and none of the model's code: the towers are StableHLO programs.
"""

from __future__ import annotations

import json
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export as jax_export

from retrieval.data.interactions import Table
from retrieval.data.vocabulary import Vocabulary
from retrieval.index import HnswIndex
from retrieval.lists import Lists
from retrieval.logs import versions
from retrieval.recommend import Recommender
from retrieval.storage import replace_folder, sha256, write_json

FORMAT_VERSION = 1
PLATFORMS = ("cpu", "cuda", "tpu")
QUERY_TOWER, CANDIDATE_TOWER = "query_tower.stablehlo", "candidate_tower.stablehlo"
QUERIES, CANDIDATES, CORPUS = "query_vocabulary.json", "candidate_vocabulary.json", "corpus.json"
EMBEDDINGS, SEEN_OFFSETS, SEEN_ROWS = "candidate_embeddings.npy", "seen_offsets.npy", "seen_rows.npy"
MANIFEST = "manifest.json"


def export_tower(tower) -> bytes:
    """Returns rows -> embeddings as a serialised StableHLO program for cpu, cuda and tpu, of any batch size."""
    (size,) = jax_export.symbolic_shape("batch")
    program = jax_export.export(jax.jit(lambda rows: tower(rows).astype(jnp.float32)), platforms=PLATFORMS)
    return bytes(program(jax.ShapeDtypeStruct((size,), jnp.int32)).serialize())


def load_tower(path: pathlib.Path):
    """Returns the function of rows that `export_tower` serialised; needs no model code."""
    program = jax_export.deserialize(bytearray(path.read_bytes()))
    return jax.jit(program.call)


def save(
    folder: pathlib.Path,
    *,
    model: nnx.Module,
    queries: Vocabulary,
    candidates: Vocabulary,
    corpus: Table,
    seen: Lists,
    index: HnswIndex,
    facts: Mapping[str, Any],
) -> None:
    """Writes a bundle, replacing one that is there once the new one is whole. Heads of the model stay behind.

    Args:
      folder: where; its parent exists.
      model: the trained model, with `query` and `candidate`.
      queries: vocabulary of the query tower's rows.
      candidates: vocabulary of the candidate tower's rows.
      corpus: all candidates, in the order of the index.
      seen: positions in the corpus of what each query row has in train.
      index: over the embeddings of the corpus.
      facts: what else the manifest records: config, data fingerprint, figures.
    """
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        new = pathlib.Path(scratch) / "new"
        new.mkdir()
        (new / QUERY_TOWER).write_bytes(export_tower(model.query))
        (new / CANDIDATE_TOWER).write_bytes(export_tower(model.candidate))
        (new / QUERIES).write_text(queries.to_json(), encoding="utf-8")
        (new / CANDIDATES).write_text(candidates.to_json(), encoding="utf-8")
        (new / CORPUS).write_text(_corpus_to_json(corpus), encoding="utf-8")
        for name, array in (
            (EMBEDDINGS, index.embeddings),
            (SEEN_OFFSETS, seen.offsets),
            (SEEN_ROWS, seen.rows),
        ):
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
    verify(folder)
    tower = load_tower(folder / QUERY_TOWER)
    index = HnswIndex.load(folder)
    return Recommender(
        encode=lambda rows: np.asarray(tower(rows)),
        search=index.search,
        queries=Vocabulary.from_json((folder / QUERIES).read_text(encoding="utf-8")),
        corpus=_corpus_from_json((folder / CORPUS).read_text(encoding="utf-8")),
        seen=Lists(*(np.load(folder / name, allow_pickle=False) for name in (SEEN_OFFSETS, SEEN_ROWS))),
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


def _corpus_to_json(corpus: Table) -> str:
    columns = {name: column.tolist() for name, column in corpus.columns.items()}
    return json.dumps({"ids": corpus.ids.tolist(), "columns": columns}, ensure_ascii=False)


def _corpus_from_json(text: str) -> Table:
    content = json.loads(text)
    return Table(np.asarray(content["ids"]), {k: np.asarray(v) for k, v in content["columns"].items()})
