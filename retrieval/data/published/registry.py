"""The registry of published data sets: a function that loads each, by the name that a user gives."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

from retrieval.data.interactions import Interactions, Table
from retrieval.data.published import movielens, synthetic
from retrieval.data.readers.fetch import Progress


class PublishedData(NamedTuple):
    """A data set as its loader returns it.

    Attributes:
      interactions: all events, in the order of the file.
      candidates: table of the candidates, or None.
      queries: table of the queries, or None.
    """

    interactions: Interactions
    candidates: Table | None = None
    queries: Table | None = None


def _movielens(name: str, path: str, cache: str, progress: Progress | None) -> PublishedData:
    release = movielens.load(name, path, cache, progress)
    return PublishedData(release.ratings, release.movies, release.users)


def _synthetic(path: str, cache: str, progress: Progress | None) -> PublishedData:
    return PublishedData(*synthetic.load())


# name -> loader(path of a local copy or "", cache folder, progress)
DATASETS: dict[str, Callable[[str, str, Progress | None], PublishedData]] = {
    **{name: functools.partial(_movielens, name) for name in movielens.RELEASES},
    "synthetic": _synthetic,
}
