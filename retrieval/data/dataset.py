"""Data sets that are ready to train on: read from the source that a config names, and split into parts."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import pathlib
from collections.abc import Mapping

import numpy as np

from retrieval.common.choices import did_you_mean
from retrieval.config.remedies import naming_fields
from retrieval.config.schema import Data
from retrieval.config.values import check_values
from retrieval.data.fingerprint import ROWS, Fingerprint, Source
from retrieval.data.ids import distinct
from retrieval.data.interactions import Interactions, Table, drop_duplicates
from retrieval.data.out_of_core import stored
from retrieval.data.published.registry import DATASETS
from retrieval.data.readers import files
from retrieval.data.readers.fetch import Progress
from retrieval.data.splits import Parts, split

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Interactions in parts, and the tables of candidates and queries.

    Attributes:
      parts: train, validation and test part.
      corpus: table of all candidates that can be retrieved, with a column "title" if titles are known.
      queries: table of the queries, or None.
      num_duplicates: number of dropped repeats of a (query, candidate) pair.
      sources: where the parts ("train", "validation", "test") and the tables ("candidates", "queries") were read from.
    """

    parts: Parts
    corpus: Table
    queries: Table | None
    num_duplicates: int
    sources: Mapping[str, Source] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """The digest of each column of the parts and of both tables; computed once."""
        parts = {"train": self.parts.train, "validation": self.parts.validation, "test": self.parts.test}
        tables = parts | {"candidates": self.corpus, "queries": self.queries}
        return Fingerprint(
            {name: {ROWS: len(table), **table.digests()} for name, table in tables.items() if table is not None}
        )

    def differences(self, before: Fingerprint) -> list[str]:
        """Returns a line for each file and column that differs from the data with the fingerprint `before`."""
        return before.differences(self.fingerprint, self.sources)

    def old_fingerprint(self) -> str:
        """Computes the digest by which earlier versions knew a data set: of the parts and the ids of the corpus."""
        corpus = Interactions.checked_before(query_ids=self.corpus.ids, candidate_ids=self.corpus.ids)
        parts = (self.parts.train, self.parts.validation, self.parts.test, corpus)
        digests = [part.fingerprint() if part is not None else "" for part in parts]
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()


@naming_fields()
def load(data: Data, progress: Progress | None = None) -> Dataset:
    """Loads a published data set or the user's files, and splits them unless they are parts already.

    A train part in Parquet with the placement "stream" is encoded out of core, once: see `stored.encode`. All other
    data are read into memory.

    Args:
      data: the section of the config that names the source.
      progress: called with the bytes received and the bytes in all while a data set is downloaded.

    Raises:
      ValueError: the section names no source or several, or a file is not usable; the message names file, line and
        column.
    """
    check_values(data, "data")
    interactions, corpus, queries = _published(data, progress) if data.dataset else _own_files(data)
    kept = {name: drop_duplicates(part) if data.drop_duplicates else part for name, part in interactions.items()}
    if "train" in kept:
        parts = Parts(kept["train"], kept.get("validation"), kept["test"])
    else:
        (whole,) = kept.values()
        cut = data.split
        parts = split(
            whole,
            cut.strategy,
            test_fraction=cut.test_fraction,
            validation_fraction=cut.validation_fraction,
            seed=cut.seed,
        )
    if corpus is None:
        candidates = [part.distinct_ids[1] for part in (parts.train, parts.validation, parts.test) if part is not None]
        corpus = Table(distinct(np.concatenate(candidates)))
    _check_candidates(corpus, interactions, data)
    num_duplicates = sum(map(len, interactions.values())) - sum(map(len, kept.values()))
    return Dataset(parts, corpus, queries, num_duplicates, _sources(data))


def _sources(data: Data) -> dict[str, Source]:
    """Returns where each part and each table is read from, with the names of the columns in the user's files."""
    names = data.columns
    roles = {"query_ids": names.query_id, "candidate_ids": names.candidate_id}
    roles |= {"ratings": names.rating, "timestamps": names.timestamp, "nanoseconds": names.timestamp}
    fields = {part: "interactions" if data.interactions else part for part in ("train", "validation", "test")}
    fields["candidates"] = "candidates" if data.candidates else fields["train"]
    fields["queries"] = "queries"
    if data.dataset:
        fields, roles = dict.fromkeys(fields, "dataset"), {}
    sources = {}
    for table, field in fields.items():
        ids = {"": {"candidates": names.candidate_id, "queries": names.query_id}.get(table, "")} if roles else {}
        sources[table] = Source(f"data.{field} ({getattr(data, field)})", roles | ids)
    return sources


Contents = tuple[dict[str, Interactions], Table | None, Table | None]  # interactions by field, corpus, queries


def _published(data: Data, progress: Progress | None) -> Contents:
    _refuse(data, "dataset", ("interactions", "train", "validation", "test", "candidates", "queries"))
    published = DATASETS[data.dataset](data.path, data.cache, progress)
    return {"dataset": published.interactions}, published.candidates, published.queries


def _own_files(data: Data) -> Contents:
    if data.interactions:
        _refuse(data, "interactions", ("train", "validation", "test"))
        names = ["interactions"]
    elif data.train and data.test:
        names = [name for name in ("train", "validation", "test") if getattr(data, name)]
    else:
        raise ValueError("set data.dataset, or data.interactions, or both data.train and data.test")
    columns = data.columns
    parts = [_read_part(data, name) for name in names]
    corpus = _read_corpus(data) if data.candidates else None
    queries = files.read_table(data.queries, columns.query_id) if data.queries else None
    parts, corpus, queries = _with_ids_of_one_type(parts, corpus, queries)
    return dict(zip(names, parts, strict=True)), corpus, queries


def _read_part(data: Data, name: str) -> Interactions:
    path, columns = getattr(data, name), data.columns
    ids = {"query_id": columns.query_id, "candidate_id": columns.candidate_id}
    if name == "train" and data.placement == "stream" and path.lower().endswith(".parquet"):
        for field, remedy in (
            ("drop_duplicates", "set it to False, which keeps repeats"),
            ("validation", "leave it out"),
            ("dislike_at_most", "set it to 0"),
        ):
            if getattr(data, field):
                raise ValueError(
                    f"data.{field} needs the train part in memory, and data.placement is 'stream' with a Parquet "
                    f"file, which is read out of core: {remedy}, or set data.placement to 'auto'"
                )
        unread = [name for name in (columns.rating, columns.timestamp) if name]
        if unread:
            LOG.warning(
                "%s is streamed from disk by its ids alone: column %s of it is not read, so histories are in the order "
                "of the file; set data.placement to 'auto' to read it",
                *(path, " and ".join(map(repr, unread))),
            )
        return stored.encode(path, pathlib.Path(data.cache).expanduser() / "encoded", **ids)
    return files.read_interactions(
        path, **ids, rating=columns.rating, timestamp=columns.timestamp, timestamp_unit=columns.timestamp_unit
    )


def _refuse(data: Data, source: str, others: tuple[str, ...]) -> None:
    """Checks that no field is set which is not read beside the field `source`.

    Raises:
      ValueError: a field is set.
    """
    for other in others:
        if getattr(data, other):
            raise ValueError(f"data.{source} and data.{other} are both set, and only one can be used")


def _read_corpus(data: Data) -> Table:
    corpus, title = files.read_table(data.candidates, data.columns.candidate_id), data.columns.title
    if not title:
        return corpus
    if title not in corpus.columns:
        raise ValueError(
            f"{data.candidates} has no column {title!r} (data.columns.title), only "
            f"{', '.join(corpus.columns)}{did_you_mean(title, corpus.columns)}"
        )
    return Table(corpus.ids, {**corpus.columns, "title": corpus.columns[title]})


def _with_ids_of_one_type(
    parts: list[Interactions], corpus: Table | None, queries: Table | None
) -> tuple[list[Interactions], Table | None, Table | None]:
    """Converts the ids of all files to text if the ids of one file are text, so that "7" and 7 are one id."""
    query_dtypes, candidate_dtypes = map(list, zip(*(part.id_dtypes for part in parts), strict=True))
    query_dtypes += [] if queries is None else [queries.ids.dtype]
    candidate_dtypes += [] if corpus is None else [corpus.ids.dtype]
    text = [any(dtype.kind == "U" for dtype in dtypes) for dtypes in (query_dtypes, candidate_dtypes)]
    for name, is_text, dtypes in zip(("query", "candidate"), text, (query_dtypes, candidate_dtypes), strict=True):
        if is_text and any(dtype.kind != "U" for dtype in dtypes):
            LOG.warning("the %s ids are text in one file and integers in another: all are read as text", name)
    parts = [part.with_text_ids(*text) for part in parts]
    if queries is not None and text[0]:
        queries = Table(queries.ids.astype(np.str_), queries.columns)
    if corpus is not None and text[1]:
        corpus = Table(corpus.ids.astype(np.str_), corpus.columns)
    return parts, corpus, queries


def _check_candidates(corpus: Table, parts: dict[str, Interactions], data: Data) -> None:
    """Checks that the corpus has the candidate of each interaction.

    Raises:
      ValueError: the corpus lacks a candidate; the message names the first.
    """
    for name, part in parts.items():
        if (corpus.positions(part.distinct_ids[1]) < 0).any():  # distinct ids are few; look at events only to report
            missing = np.flatnonzero(corpus.positions(part.candidate_ids) < 0)
            first = missing[0]
            raise ValueError(
                f"{len(missing)} interactions of {getattr(data, name)} have a candidate id that {data.candidates} "
                f"lacks, the first in row {first + 1}: {part.candidate_ids[first].item()!r}; add it to the table, "
                "or drop the interactions"
            )
