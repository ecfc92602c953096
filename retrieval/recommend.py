"""From raw query ids, or raw histories, to raw candidates: towers, vocabularies, corpus and search put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, Shaped

from retrieval.context import QueryContext
from retrieval.data.ids import Ids
from retrieval.data.interactions import Table
from retrieval.data.sequences import Histories
from retrieval.data.vocabulary import UNKNOWN_ROW, Vocabulary
from retrieval.lists import Lists
from retrieval.topk import PADDING_ROW

Encode = Callable[..., Float32[np.ndarray, "Q D"]]
Search = Callable[..., tuple[Float32[np.ndarray, "Q k"], Int32[np.ndarray, "Q k"]]]


@dataclasses.dataclass(frozen=True)
class Recommendations:
    """The k best candidates of each query, best first.

    Attributes:
      positions: positions in the corpus [Q, k]; -1 where fewer than k candidates are left.
      ids: raw candidate ids [Q, k]; 0 or "" there.
      titles: their titles [Q, k]; "" there.
      scores: dot products of the embeddings [Q, k]; -inf there.
      known: whether train has the query [Q]. One that it has not is answered by its features, where the table of
        queries has them, or else as an unknown query; and by the history that is given.
    """

    positions: Int32[np.ndarray, "Q k"]
    ids: Shaped[np.ndarray, "Q k"]
    titles: Shaped[np.ndarray, "Q k"]
    scores: Float32[np.ndarray, "Q k"]
    known: Bool[np.ndarray, "Q"]


@dataclasses.dataclass(frozen=True)
class Recommender:
    """Answers queries by their raw ids, or by their histories.

    Attributes:
      encode: query rows, and the columns of their context by name -> embeddings.
      search: (embeddings, k, excluded) -> scores and positions; exact or approximate.
      queries: vocabulary of the queries.
      candidates: vocabulary of the candidates, whose rows histories hold.
      corpus: all candidates, with a "title" column where titles are known.
      seen: positions of the candidates in the training part of each query row; those of row 0 and of queries that train
        has not are empty.
      context: makes the columns that the query tower reads.
      histories: of each query row, likewise; None: the query tower reads none.
    """

    encode: Encode
    search: Search
    queries: Vocabulary
    candidates: Vocabulary
    corpus: Table
    seen: Lists
    context: QueryContext = dataclasses.field(default_factory=QueryContext)
    histories: Histories | None = None

    def recommend(
        self,
        query_ids: Sequence | Ids | None = None,
        k: int = 10,
        *,
        history: Sequence[Sequence | Ids] | None = None,
        times: Sequence[int] | Int[np.ndarray, "Q"] | None = None,
        exclude_seen: bool = True,
        exclude: Sequence[Sequence | Ids] | None = None,
    ) -> Recommendations:
        """Returns the k best candidates of each query.

        Args:
          query_ids: raw query ids [Q]; an unknown one gets the answer of the unknown row and a flag. None: all are
            unknown, and `history` is what is known of them.
          k: how many, at least 1.
          history: raw ids of what each query did last, oldest first, one sequence of any length per query, which may be
            empty; the last ones that the query tower reads count. Ids that train does not know and that have no
            features are skipped; ratings and times of the interactions count as unknown. None: what the query did in
            train.
          times: of the requests in Unix seconds [Q], where the query tower reads them; None: the end of train.
          exclude_seen: leaves out the candidates in the query's training part, and those of `history`.
          exclude: raw candidate ids to leave out besides, one sequence of any length per query; ids outside the
            corpus are ignored.

        Raises:
          ValueError: there are neither `query_ids` nor a `history`, the query tower reads no history and one is given,
            arguments are of different lengths, k is below 1, or ids are strings where the known ones are integers or
            the reverse.
        """
        rows = self._rows(query_ids, history)
        excluded = self.seen.take(rows) if exclude_seen else Lists.empty(len(rows))
        if exclude_seen and history is not None:
            excluded = excluded.join(self._positions(history))
        if exclude is not None:
            excluded = excluded.join(self._positions(_one_each("exclude", exclude, len(rows))))
        if times is not None:
            times = np.asarray(_one_each("times", times, len(rows), "time"), np.int64)
        columns = self.context.of_queries(self._histories(rows, history), times)
        scores, positions = self.search(self.encode(rows, **columns), k, excluded)
        return Recommendations(
            positions,
            _lookup(self.corpus.ids, positions),
            _lookup(self.titles, positions),
            scores,
            (rows != UNKNOWN_ROW) & (rows < self.queries.num_rows),
        )

    @property
    def titles(self) -> Shaped[np.ndarray, "N"]:
        """The title of each candidate: its id where titles are not known."""
        return self.corpus.columns.get("title", self.corpus.ids).astype(str)

    def _rows(
        self, query_ids: Sequence | Ids | None, history: Sequence[Sequence | Ids] | None
    ) -> Int32[np.ndarray, "Q"]:
        if history is not None and self.histories is None:
            raise ValueError(
                f"history was given for {len(history)} queries, and the query tower reads none; leave it out, or train "
                "with model.history.encoder"
            )
        if query_ids is not None:
            rows = self.queries.rows(query_ids)
            if history is not None:
                _one_each("history", history, len(rows))
            return rows
        if history is None:
            raise ValueError("query_ids or history is needed, received neither")
        return np.full(len(history), UNKNOWN_ROW, np.int32)

    def _histories(self, rows: Int32[np.ndarray, "Q"], history: Sequence[Sequence | Ids] | None) -> Histories:
        """Returns the histories that are given, or else those of the rows."""
        if history is not None:
            known = [found[found != UNKNOWN_ROW] for found in map(self.candidates.rows, history)]
            return Histories(Lists.from_sequences([found[-self.context.length :] for found in known]))
        return Histories(Lists.empty(len(rows))) if self.histories is None else self.histories.take(rows)

    def _positions(self, ids: Sequence[Sequence | Ids]) -> Lists:
        """Returns the positions in the corpus of lists of raw candidate ids, without those outside it."""
        return Lists.from_sequences([found[found >= 0] for found in map(self.corpus.positions, ids)])


def _one_each(name: str, values: Sequence, number: int, of: str = "list") -> Sequence:
    if len(values) != number:
        raise ValueError(f"{name} needs one {of} per query, got {len(values)} for {number} queries")
    return values


def _lookup(values: Shaped[np.ndarray, "N"], positions: Int32[np.ndarray, "Q k"]) -> Shaped[np.ndarray, "Q k"]:
    """Returns the value at each position, zero or "" at padding."""
    return np.where(positions == PADDING_ROW, np.zeros((), values.dtype), values[positions])
