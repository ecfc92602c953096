"""From raw query ids to raw candidates: towers, vocabulary, corpus and search put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int32, Shaped

from retrieval.data.ids import Ids
from retrieval.data.interactions import Table
from retrieval.data.vocabulary import UNKNOWN_ROW, Vocabulary
from retrieval.lists import Lists
from retrieval.topk import PADDING_ROW

Encode = Callable[[Int32[np.ndarray, "Q"]], Float32[np.ndarray, "Q D"]]
Search = Callable[..., tuple[Float32[np.ndarray, "Q k"], Int32[np.ndarray, "Q k"]]]


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """The k best candidates of each query, best first.

    Attributes:
      positions: positions in the corpus [Q, k]; -1 where fewer than k candidates are left.
      ids: raw candidate ids [Q, k]; 0 or "" there.
      titles: their titles [Q, k]; "" there.
      scores: dot products of the embeddings [Q, k]; -inf there.
      known: False for a query that is not in the vocabulary and was answered by the unknown row [Q].
    """

    positions: Int32[np.ndarray, "Q k"]
    ids: Shaped[np.ndarray, "Q k"]
    titles: Shaped[np.ndarray, "Q k"]
    scores: Float32[np.ndarray, "Q k"]
    known: Bool[np.ndarray, "Q"]


@dataclasses.dataclass(frozen=True)
class Recommender:
    """Answers queries by their raw ids.

    Attributes:
      encode: query rows -> embeddings.
      search: (embeddings, k, excluded) -> scores and positions; exact or approximate.
      queries: vocabulary of the queries.
      corpus: all candidates, with a "title" column where titles are known.
      seen: positions of the candidates in the training part of each query row, the unknown one's empty.
    """

    encode: Encode
    search: Search
    queries: Vocabulary
    corpus: Table
    seen: Lists

    def recommend(
        self,
        query_ids: Sequence | Ids,
        k: int,
        *,
        exclude_seen: bool = True,
        exclude: Sequence[Sequence | Ids] | None = None,
    ) -> Recommendations:
        """Returns the k best candidates of each query.

        Args:
          query_ids: raw query ids [Q]; an unknown one gets the answer of the unknown row and a flag.
          k: how many, at least 1.
          exclude_seen: leaves out the candidates in the query's training part.
          exclude: raw candidate ids to leave out besides, one sequence of any length per query; ids outside the
            corpus are ignored.
        """
        rows = self.queries.rows(query_ids)
        excluded = self.seen.take(rows) if exclude_seen else Lists.empty(len(rows))
        if exclude is not None:
            if len(exclude) != len(rows):
                raise ValueError(f"exclude needs one list per query, got {len(exclude)} for {len(rows)} queries")
            excluded = excluded.join(Lists.from_sequences([p[p >= 0] for p in map(self.corpus.positions, exclude)]))
        scores, positions = self.search(self.encode(rows), k, excluded)
        return Recommendations(
            positions,
            _lookup(self.corpus.ids, positions),
            _lookup(self.titles, positions),
            scores,
            rows != UNKNOWN_ROW,
        )

    @property
    def titles(self) -> Shaped[np.ndarray, "N"]:
        """The title of each candidate: its id where titles are not known."""
        return self.corpus.columns.get("title", self.corpus.ids).astype(str)


def _lookup(values: Shaped[np.ndarray, "N"], positions: Int32[np.ndarray, "Q k"]) -> Shaped[np.ndarray, "Q k"]:
    """Returns the value at each position, zero or "" at padding."""
    return np.where(positions == PADDING_ROW, np.zeros((), values.dtype), values[positions])
