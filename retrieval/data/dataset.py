"""A data set ready to train on, from wherever the config says it comes."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np

from retrieval.config import Data
from retrieval.data import files, movielens, synthetic
from retrieval.data.interactions import Interactions, Table, drop_duplicates
from retrieval.data.splits import Parts, split
from retrieval.suggestions import did_you_mean

Progress = Callable[[int, int], None]  # bytes done, bytes in all


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Interactions in parts, and the tables beside them.

    Attributes:
      parts: train, validation and test.
      corpus: all candidates that can be retrieved, with a "title" column where titles are known.
      queries: attributes of the queries, or None.
      num_duplicates: repeats of a (query, candidate) pair that were dropped.
    """

    parts: Parts
    corpus: Table
    queries: Table | None
    num_duplicates: int

    def fingerprint(self) -> str:
        """Returns the SHA-256 of the parts and the corpus's ids, hexadecimal."""
        parts = [self.parts.train, self.parts.validation, self.parts.test, Interactions(self.corpus.ids, self.corpus.ids)]
        return hashlib.sha256("".join(p.fingerprint() for p in parts if p is not None).encode()).hexdigest()

    def titles(self) -> np.ndarray:
        """Returns a title for each candidate of the corpus: its id where there are no titles."""
        return np.asarray(self.corpus.columns.get("title", self.corpus.ids)).astype(str)


def load(data: Data, progress: Progress | None = None) -> Dataset:
    """Loads what the config names: a published data set, the user's files, or synthetic data.

    Args:
      data: where interactions come from.
      progress: called while a data set is fetched.

    Raises:
      ValueError: the config names no source or several, or the data are not usable; the message says where.
    """
    sources = [name for name in ("dataset", "interactions", "train") if getattr(data, name)]
    if len(sources) != 1:
        raise ValueError(
            "set one of data.dataset, data.interactions, or data.train with data.test; "
            f"got {' and '.join(f'data.{name}' for name in sources) or 'none of them'}"
        )
    if data.train:
        return _from_parts(data)
    interactions, corpus, queries = _whole(data, progress)
    kept = drop_duplicates(interactions) if data.drop_duplicates else interactions
    parts = split(
        kept,
        data.split.strategy,
        test_fraction=data.split.test_fraction,
        validation_fraction=data.split.validation_fraction,
        seed=data.split.seed,
    )
    corpus = _corpus_of(kept) if corpus is None else corpus
    _check_candidates(corpus, {data.interactions or data.dataset: kept}, data.candidates)
    return Dataset(parts, corpus, queries, len(interactions) - len(kept))


def _whole(data: Data, progress: Progress | None) -> tuple[Interactions, Table | None, Table | None]:
    if data.dataset == "synthetic":
        interactions, corpus = synthetic.load()
        return interactions, corpus, None
    if data.dataset:
        movies = movielens.load(data.dataset, data.path, data.cache, progress)
        return movies.ratings, movies.movies, movies.users
    return _interactions(data, data.interactions), *_tables(data)


def _from_parts(data: Data) -> Dataset:
    names = [name for name in ("train", "validation", "test") if getattr(data, name)]
    if "test" not in names:
        raise ValueError("data.train needs data.test beside it; or set data.interactions to have one file split")
    read = files.unify_ids(*(_interactions(data, getattr(data, name)) for name in names))
    parts = {name: drop_duplicates(part) if data.drop_duplicates else part for name, part in zip(names, read, strict=True)}
    corpus, queries = _tables(data)
    dataset_parts = Parts(parts["train"], parts.get("validation"), parts["test"])
    corpus = _corpus_of(dataset_parts.all()) if corpus is None else corpus
    _check_candidates(corpus, {getattr(data, name): part for name, part in parts.items()}, data.candidates)
    num_duplicates = sum(map(len, read)) - len(dataset_parts.all())
    return Dataset(dataset_parts, corpus, queries, num_duplicates)


def _interactions(data: Data, path: str) -> Interactions:
    columns = data.columns
    return files.read_interactions(
        path,
        query_id=columns.query_id,
        candidate_id=columns.candidate_id,
        rating=columns.rating,
        timestamp=columns.timestamp,
    )


def _tables(data: Data) -> tuple[Table | None, Table | None]:
    columns = data.columns
    corpus = files.read_table(data.candidates, columns.candidate_id) if data.candidates else None
    queries = files.read_table(data.queries, columns.query_id) if data.queries else None
    if columns.title and corpus is not None:
        if columns.title not in corpus.columns:
            raise ValueError(
                f"{data.candidates} has no column {columns.title!r} (data.columns.title), only "
                f"{', '.join(corpus.columns)}{did_you_mean(columns.title, corpus.columns)}"
            )
        corpus = Table(corpus.ids, {**corpus.columns, "title": corpus.columns[columns.title]})
    return corpus, queries


def _corpus_of(interactions: Interactions) -> Table:
    return Table(np.unique(interactions.candidate_ids))


def _check_candidates(corpus: Table, parts: dict[str, Interactions], source: str) -> None:
    """Raises ValueError if an interaction's candidate is not in the corpus."""
    for path, part in parts.items():
        missing = np.flatnonzero(corpus.positions(part.candidate_ids) < 0)
        if len(missing):
            raise ValueError(
                f"{len(missing)} interactions of {path} have a candidate id that {source or 'the corpus'} lacks, the first "
                f"{part.candidate_ids[missing[0]]!r}; add it to the table, or drop the interactions"
            )
