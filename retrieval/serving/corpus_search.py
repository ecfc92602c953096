"""Searches for candidates: of the corpus of a bundle, of an index by raw id, and by cosine."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, Shaped

from retrieval.common.lists import PADDING_ROW, Lists
from retrieval.data.ids import Ids
from retrieval.data.interactions import Table
from retrieval.index import MOST_KEPT, Answers, ExactIndex, Filter, Filters, IdIndex, Searcher, Subset, tell_unmatched
from retrieval.serving.answers import lookup
from retrieval.serving.request import lists_of


@dataclasses.dataclass(frozen=True)
class CorpusSearch:
    """Searches the embeddings of a corpus, with compiled filters.

    Attributes:
      corpus: all candidates, with a "title" column if titles are known.
      index: searches their embeddings, in the order of the corpus.
    """

    corpus: Table
    index: Searcher

    def search(
        self, vectors: Float32[np.ndarray, "Q D"], k: int, excluded: Lists, filter: Filter | None
    ) -> tuple[Answers, Int32[np.ndarray, "Q k"]]:
        """Returns the best k candidates for each vector, and their positions in the corpus."""
        scores, positions = self.index.search(vectors, k, excluded, self.subset(filter))
        return self.answers(scores, positions), positions

    def answers(self, scores: Float32[np.ndarray, "Q k"], positions: Int32[np.ndarray, "Q k"]) -> Answers:
        """Returns the candidates at positions with their attributes."""
        ids = lookup(self.corpus.ids, positions)
        return Answers(ids, scores, functools.partial(self._attribute, positions))

    def _attribute(self, positions: Int32[np.ndarray, "Q k"], name: str) -> Shaped[np.ndarray, "Q k ..."] | None:
        if name == "title":
            return lookup(self.titles, positions)
        return lookup(self.corpus.columns[name], positions) if name in self.corpus.columns else None

    def positions(self, name: str, ids: Sequence[Sequence | Ids]) -> Lists:
        """Returns the positions of lists of raw candidate ids, without ids outside of the corpus.

        Raises:
          ValueError: an entry is no list of ids of the type of the corpus; the error starts with `name`.
        """
        return lists_of(name, ids, self.corpus.positions, PADDING_ROW)

    def subset(self, filter: Filter | None) -> Subset | None:
        """Returns the candidates that a filter leaves, compiled once; None: all. What no candidate fulfils is told."""
        if filter is None:
            return None
        subset = self._filters.subset(filter)
        self._tell_once(filter)
        return subset

    @functools.cached_property
    def titles(self) -> Shaped[np.ndarray, "N"]:
        """The title of each candidate; its id if the title is unknown."""
        return self.corpus.titles

    @functools.cached_property
    def _filters(self) -> Filters:
        return Filters(self.corpus)

    @functools.cached_property
    def _tell_once(self):
        corpus = self.corpus  # a cache that refers to `self` would keep it in memory until garbage is collected
        return functools.lru_cache(MOST_KEPT)(lambda wanted: tell_unmatched(wanted, corpus))


def search_by_id(
    index: IdIndex,
    corpus: Table,
    vectors: Float32[np.ndarray, "Q D"],
    k: int,
    left_out: Mapping[str, Sequence[Sequence | Ids]],
    filter: Filter | None,
) -> tuple[Answers, Int32[np.ndarray, "Q k"]]:
    """Returns the best k candidates of an index by raw id for each vector, and their positions in the corpus.

    Args:
      index: what is searched.
      corpus: candidates that positions refer to; others have position -1.
      vectors: embeddings of the queries.
      k: at least 1.
      left_out: by argument, as errors name it, a list for each query of ids that it must not get.
      filter: by the ids and attributes of the index.

    Raises:
      ValueError: an argument does not fit.
    """
    if not isinstance(index, IdIndex):
        raise ValueError(f"index must be one by raw id, as `live_index()` returns, got {type(index).__name__}")
    for name, lists in left_out.items():
        lists_of(name, lists, corpus.positions, PADDING_ROW)  # raises if an entry is no list of ids of the corpus' type
    empty = np.zeros(0, corpus.ids.dtype)
    query_lists = zip(*left_out.values(), strict=True)
    excluded = [np.concatenate([empty, *(ids for ids in lists if len(ids))]) for lists in query_lists]
    found = index.search(vectors, k, exclude=excluded if left_out else None, filter=filter)
    positions = corpus.positions(found.ids.ravel()).reshape(found.ids.shape)
    return found, np.where(found.found, positions, PADDING_ROW)


@dataclasses.dataclass(frozen=True)
class CosineSearch:
    """Exact search by the cosine of the first columns of embeddings; `build` makes one."""

    index: ExactIndex
    dimension: int | None

    @classmethod
    def build(cls, embeddings: Float[np.ndarray, "n D"], dimension: int | None) -> CosineSearch:
        """Copies the first `dimension` columns of embeddings at length 1; None: all columns. O(n D) time.

        Zero vectors have no direction: they are never found.
        """
        return cls(ExactIndex.build(_unit(embeddings, dimension)), dimension)

    def search(
        self, vectors: Float[np.ndarray, "Q D"], k: int, excluded: Lists, allowed: Subset | None = None
    ) -> tuple[Float32[np.ndarray, "Q k"], Int32[np.ndarray, "Q k"]]:
        """Returns cosines and positions of the k most similar embeddings; arguments as of `Searcher.search`.

        The answer to a zero vector is padding.
        """
        if not self._has_direction.all():
            found = self._has_direction if allowed is None else self._has_direction & allowed.mask
            allowed = Subset(found)
        return self.index.search(_unit(vectors, self.dimension), k, excluded, allowed)

    @functools.cached_property
    def _has_direction(self) -> Bool[np.ndarray, "n"]:
        return self.index.embeddings.any(axis=1)


def _unit(embeddings: Float[np.ndarray, "n D"], dimension: int | None) -> Float32[np.ndarray, "n d"]:
    """Returns the first columns of embeddings at length 1; zero vectors stay zero."""
    vectors = embeddings[:, :dimension]
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
