"""Out-of-core encoding of a Parquet file: int32 rows in memory-mapped files, distinct ids in memory."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Bool, Int, Int32

from retrieval.common.disk_errors import writing
from retrieval.common.errors import DataError
from retrieval.common.folders import replace_folder, scratch_folder
from retrieval.common.manifest import check_hash, entry_of, listed_file, read_object, write_manifest
from retrieval.common.storage import sha256
from retrieval.common.verified_folder import VerifiedFolder
from retrieval.data.ids import Ids, distinct, narrow
from retrieval.data.interactions import Interactions, update_digest
from retrieval.data.out_of_core.mapped import release, windows
from retrieval.data.readers import arrow as convert
from retrieval.data.readers import delimited, files
from retrieval.data.readers.arrow import Column
from retrieval.data.vocabulary import Vocabulary

READ_ROWS = 1 << 20  # number of rows of the file in memory at a time
FORMAT = 2  # version of the stored files, and of the rules by which ids are read; other versions are ignored
MANIFEST = "manifest.json"
LOG = logging.getLogger(__name__)
COLUMNS = ("query", "candidate")


class StoredInteractions(Interactions):
    """Interactions in memory-mapped files, with 8 bytes for each event on disk and the distinct ids in memory.

    Training uses `len`, `distinct_ids`, `rows_in`, `take`, `pieces` and `fingerprint`, which read the files in windows.
    The columns of raw ids, `query_ids` and `candidate_ids`, are computed at each access, whole and in memory.

    Attributes:
      distinct_ids: distinct query ids and distinct candidate ids, each sorted.
      rows: row of each event's query id and candidate id in the vocabularies of `distinct_ids`, int32 [n] each.
    """

    def __init__(self, distinct_ids: tuple[Ids, Ids], rows: tuple[Int32[np.ndarray, "n"], Int32[np.ndarray, "n"]]):
        object.__setattr__(self, "distinct_ids", distinct_ids)
        object.__setattr__(self, "rows", rows)

    def __len__(self) -> int:
        return len(self.rows[0])

    @property
    def query_ids(self) -> Ids:
        """Raw id of the query of each event [n], in memory."""
        return self.take(slice(None)).query_ids

    @property
    def candidate_ids(self) -> Ids:
        """Raw id of the candidate of each event [n], in memory."""
        return self.take(slice(None)).candidate_ids

    @property
    def id_dtypes(self) -> tuple[np.dtype, np.dtype]:
        """The types of the query ids and of the candidate ids."""
        queries, candidates = self.distinct_ids
        return queries.dtype, candidates.dtype

    def take(self, rows: Int[np.ndarray, "m"] | Bool[np.ndarray, "n"] | slice) -> Interactions:
        """Returns the events at `rows` (indices, a mask or a slice), in that order, in memory."""
        taken = [ids[column[rows] - 1] for ids, column in zip(self.distinct_ids, self.rows, strict=True)]
        for column in self.rows:
            release(column)
        return Interactions.checked_before(query_ids=taken[0], candidate_ids=taken[1])

    def rows_in(
        self, queries: Vocabulary, candidates: Vocabulary
    ) -> tuple[Int32[np.ndarray, "n"], Int32[np.ndarray, "n"]]:
        """Returns the rows of each event's ids; no copy is made if the vocabularies hold just `distinct_ids`."""
        return tuple(
            _translated(rows, vocabulary.rows(ids))
            for rows, vocabulary, ids in zip(self.rows, (queries, candidates), self.distinct_ids, strict=True)
        )

    def with_text_ids(self, queries: bool, candidates: bool) -> Interactions:
        """Returns itself, after a check that the ids that should be text are text.

        Raises:
          ValueError: the ids are integers, whose stored rows do not have the order of their texts.
        """
        for name, dtype, text in zip(COLUMNS, self.id_dtypes, (queries, candidates), strict=True):
            if text and dtype.kind != "U":
                raise ValueError(
                    f"the {name} ids of the train part are integers and those of another file are text: a train part "
                    "that is streamed from Parquet keeps its type, so write both as integers or both as text"
                )
        return self

    def digests(self) -> dict[str, str]:
        """Computes the SHA-256 of each column of raw ids; equal to those of the same interactions in memory."""
        digests = {}
        for name, ids, rows in zip(COLUMNS, self.distinct_ids, self.rows, strict=True):
            digest = hashlib.sha256()
            update_digest(digest, "()", ids.dtype, len(rows), (ids[part - 1] for part in windows(rows)))
            digests[f"{name}_ids"] = digest.hexdigest()
        return digests

    def fingerprint(self) -> str:
        """Computes the SHA-256 of the raw ids, hexadecimal; equal to that of the same interactions in memory."""
        digest = hashlib.sha256()
        for name, ids, rows in zip(COLUMNS, self.distinct_ids, self.rows, strict=True):
            update_digest(digest, f"{name}_ids", ids.dtype, len(rows), (ids[part - 1] for part in windows(rows)))
        return digest.hexdigest()


def encode(path: str | pathlib.Path, folder: pathlib.Path, *, query_id: str, candidate_id: str) -> StoredInteractions:
    """Encodes the ids of a Parquet file into a folder in two passes, or opens the result of an earlier call.

    The first pass finds the distinct ids, the second writes the rows. Both hold a million rows and the distinct ids in
    memory, and take O(n log distinct) time. The result is named by a hash of the file's content and moved to its place
    when it is complete: an interrupted encoding starts again, and another file gets a folder of its own. A later call
    compares every byte with the hashes that were written with it; where one differs, a warning says so and the file is
    encoded again. Ids are
    integers if all of them read as integers, as in `files.read_interactions`; other columns are not read.

    Args:
      path: the .parquet file.
      folder: folder of encoded files; 8 bytes for each row are written.
      query_id: name of the column of query ids.
      candidate_id: name of the column of candidate ids.

    Raises:
      DataError: a ValueError that names the file, the row, the column, the received value and the remedy.
    """
    path, names = pathlib.Path(path).expanduser(), (query_id, candidate_id)
    delimited.require_file(path)
    if query_id == candidate_id:
        raise DataError(f"{path}: query id and candidate id need a column each, got {query_id!r} for both")
    facts = {"format": FORMAT, "source": sha256(path), "columns": list(names)}
    home = folder / hashlib.sha256(json.dumps(list(facts.values())).encode()).hexdigest()[:32]
    if home.exists():
        try:
            return _open(home, facts)
        except (ValueError, OSError) as error:
            LOG.warning("%s; %s is encoded again", error, path)
    folder.mkdir(parents=True, exist_ok=True)
    with scratch_folder(home) as scratch:
        new = scratch / "new"
        new.mkdir()
        with writing(new):
            _write(path, names, new)
        entries = {file.name: entry_of(file) for file in sorted(new.iterdir())}
        write_manifest(new / MANIFEST, {**facts, "files": entries})
        replace_folder(new, home)
    return _open(home, facts)


def _open(home: pathlib.Path, facts: Mapping[str, Any]) -> StoredInteractions:
    """Opens encoded interactions, after a check of every byte.

    Raises:
      ValueError: a file is missing or has changed since it was written, or the folder is of another source.
      OSError: a file cannot be read.
    """
    try:
        manifest = check_hash(read_object(home / MANIFEST))
        found = {name: manifest[name] for name in facts}
        entries = {name: listed_file(name, entry) for name, entry in manifest["files"].items()}
    except FileNotFoundError:
        raise ValueError(f"{home} has no {MANIFEST}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{home / MANIFEST} is damaged ({error})") from None
    if found != facts:
        raise ValueError(f"{home} holds {found}, not {facts}")
    verified = VerifiedFolder(folder=home, files=entries, list_name=MANIFEST, remedy="it is not used", place=home)
    ids = [np.load(io.BytesIO(verified.read(f"{name}_ids.npy"))) for name in COLUMNS]
    for name in COLUMNS:
        if problem := verified.problem(f"{name}_rows.npy"):
            raise ValueError(problem)
    verified.check_rest()
    rows = [np.load(home / f"{name}_rows.npy", mmap_mode="r") for name in COLUMNS]
    return StoredInteractions(tuple(ids), tuple(rows))


def _write(path: pathlib.Path, names: tuple[str, str], folder: pathlib.Path) -> None:
    """Writes the distinct ids and the rows."""
    both = [_Distinct(), _Distinct()]
    total = 0
    for columns in _read(path, names):
        for found, column in zip(both, columns, strict=True):
            found.add(convert.to_ids(column))
        total += len(columns[0].values)
    vocabularies = [Vocabulary(found.ids()) for found in both]
    out = [(folder / f"{name}_rows.npy").open("wb") for name in COLUMNS]
    try:
        for file in out:
            header = {"descr": "<i4", "fortran_order": False, "shape": (total,)}
            np.lib.format.write_array_header_1_0(file, header)
        for columns in _read(path, names):
            for file, vocabulary, column in zip(out, vocabularies, columns, strict=True):
                file.write(_rows(vocabulary, column).astype("<i4").tobytes())
    finally:
        for file in out:
            file.close()
    for name, vocabulary in zip(COLUMNS, vocabularies, strict=True):
        with (folder / f"{name}_ids.npy").open("wb") as file:
            np.save(file, vocabulary.ids)


class _Distinct:
    """Collects the distinct ids of a column that is read in pieces; text if one piece is text."""

    def __init__(self):
        self.found: list[Ids] = []

    def add(self, ids: Ids) -> None:
        """Adds a piece. Pieces are merged once they exceed the merged ids, so that merging takes O(log) passes."""
        self.found.append(distinct(ids))
        if sum(map(len, self.found[1:])) > len(self.found[0]):
            self.found = [self.ids()]

    def ids(self) -> Ids:
        """Returns the distinct ids, sorted."""
        return narrow(distinct(np.concatenate(files.same_type(*self.found))))


def _rows(vocabulary: Vocabulary, column: Column) -> Int32[np.ndarray, "n"]:
    ids = convert.to_ids(column)
    rows = vocabulary.rows(ids.astype(np.str_) if vocabulary.ids.dtype.kind == "U" else ids)
    column.require(rows > 0, "an id that the first pass did not find", "do not write the file while it is read")
    return rows


def _read(path: pathlib.Path, names: Sequence[str]) -> Iterator[list[Column]]:
    """Yields the named columns in pieces of up to `READ_ROWS` rows."""
    start = 0
    try:
        reading = {"pre_buffer": False, "buffer_size": 1 << 20}  # pre-buffered columns stay in memory
        with pa.parquet.ParquetFile(path, page_checksum_verification=True, **reading) as file:
            convert.require_names(str(path), names, file.schema_arrow.names)
            for batch in file.iter_batches(READ_ROWS, columns=list(names), use_threads=False):
                batch.validate(full=True)
                yield [files.parquet_column(path, name, pa.chunked_array([batch[name]]), start) for name in names]
                start += len(batch)
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}; write it again") from error
    if not start:
        raise DataError(f"{path} has no rows; add rows or leave the file out")


def _translated(rows: Int32[np.ndarray, "n"], row_of: Int32[np.ndarray, "distinct"]) -> Int32[np.ndarray, "n"]:
    """Translates rows of one vocabulary to rows of another; `row_of` holds the new row of each known id."""
    if np.array_equal(row_of, np.arange(1, len(row_of) + 1)):
        return rows
    return np.concatenate([row_of[part - 1] for part in windows(rows)])
