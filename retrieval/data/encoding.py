"""Raw interactions -> integer rows, with vocabularies from the training part alone."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32, Shaped

from retrieval.common.errors import DataError
from retrieval.common.lists import Lists
from retrieval.data.ids import Ids, find
from retrieval.data.interactions import Interactions, Table
from retrieval.data.out_of_core.mapped import windows
from retrieval.data.sequences import Histories
from retrieval.data.vocabulary import UNKNOWN_ROW, Vocabulary


class Examples(NamedTuple):
    """Training examples in columns.

    Attributes:
      query_rows: row of each query in its vocabulary [n].
      candidate_rows: row of each positive candidate in its vocabulary [n]. Where the examples are windows of histories:
        of each target, -1 where an interaction is none [n, L].
      weights: weight of each example in the loss, or of each target [n] or [n, L].
      context: columns that a query tower may read besides the row, by name [n, ...] each; see `TwoTower`.
      labels: what heads are to predict, by name, in the shape of the weights; NaN where it is not known.
    """

    query_rows: Int32[np.ndarray, "n"]
    candidate_rows: Int32[np.ndarray, "n *L"]
    weights: Float32[np.ndarray, "n *L"]
    context: Mapping[str, Shaped[np.ndarray, "n ..."]] = types.MappingProxyType({})
    labels: Mapping[str, Float32[np.ndarray, "n *L"]] = types.MappingProxyType({})

    @property
    def are_windows(self) -> bool:
        """Whether each example is a window of a history, with a number of targets."""
        return self.candidate_rows.ndim == 2


class Cold(NamedTuple):
    """What an evaluation asks of the candidates that training does not know, which are ranked among themselves.

    Attributes:
      positions: theirs in the corpus, ascending [M].
      relevant: of each query of the evaluation, those that are relevant, as places in `positions`.
    """

    positions: Int32[np.ndarray, "M"]
    relevant: Lists


@dataclasses.dataclass(frozen=True)
class Targets:
    """What an evaluation asks: for each query that has them, the relevant candidates and the seen ones.

    Attributes:
      query_ids: raw ids of the distinct queries [Q].
      query_rows: their rows, 0 where the query is unknown [Q].
      relevant: positions in the corpus of each query's relevant candidates.
      seen: positions in the corpus of the candidates that each query has in the training part, or None.
      cold: the same of the candidates that training does not know; None where none of them is relevant.
    """

    query_ids: Ids
    query_rows: Int32[np.ndarray, "Q"]
    relevant: Lists
    seen: Lists | None
    cold: Cold | None = None


@dataclasses.dataclass(frozen=True)
class Encoding:
    """The integer view of the data: who has a row, and where each candidate stands in the corpus.

    A *row* indexes a vocabulary (0 is unknown); a *position* indexes the corpus, the table of all candidates
    that can be retrieved, known in training or not.

    Attributes:
      queries: vocabulary of the query ids in the training part.
      candidates: vocabulary of the candidate ids in the training part.
      corpus: all candidates.
      corpus_rows: row of each candidate of the corpus, int32 [N].
      dislike_at_most: events with a rating up to this are dislikes: no examples and not relevant; None: none are.
    """

    queries: Vocabulary
    candidates: Vocabulary
    corpus: Table
    corpus_rows: Int32[np.ndarray, "N"]
    dislike_at_most: float | None = None

    @classmethod
    def fit(
        cls,
        known: Interactions,
        corpus: Table,
        dislike_at_most: float | None = None,
        *,
        queries: Table | None = None,
        has_features: bool = False,
    ) -> Encoding:
        """Builds the vocabularies from the ids in `known`, which is the training part unless there is a reason.

        Args:
          known: whose ids have a row of their own.
          corpus: all candidates.
          dislike_at_most: see above.
          queries: the queries that have features, whether known or not; None: none has.
          has_features: whether the candidates of the corpus have some.
        """
        query_ids, candidate_ids = known.distinct_ids
        query_vocabulary = Vocabulary(query_ids, None if queries is None else queries.ids)
        candidates = Vocabulary(candidate_ids, corpus.ids if has_features else None)
        return cls(query_vocabulary, candidates, corpus, candidates.rows(corpus.ids), dislike_at_most)

    def examples(self, interactions: Interactions) -> Examples:
        """Returns the interactions that are no dislikes as examples of weight 1, the weights one number in memory."""
        interactions = self.without_dislikes(interactions)
        rows = interactions.rows_in(self.queries, self.candidates)
        return Examples(*rows, np.broadcast_to(np.float32(1.0), len(interactions)))

    def counts(self, examples: Examples) -> Float32[np.ndarray, "num_rows"]:
        """Returns how often each candidate row occurs in the examples."""
        counts = np.zeros(self.candidates.num_rows, np.int64)
        for rows in windows(examples.candidate_rows):
            counts += np.bincount(rows, minlength=len(counts))
        return counts.astype(np.float32)

    def disliked(self, interactions: Interactions) -> Lists | None:
        """Returns the candidate rows that each query row disliked; None where there are no dislikes."""
        if self.dislike_at_most is None:
            return None
        disliked = interactions.take(self._dislikes(interactions))
        rows = self.queries.rows(disliked.query_ids), self.candidates.rows(disliked.candidate_ids)
        return Lists.from_pairs(*rows, self.queries.num_rows)

    def without_dislikes(self, interactions: Interactions) -> Interactions:
        """Returns the interactions that are no dislikes."""
        return interactions if self.dislike_at_most is None else interactions.take(~self._dislikes(interactions))

    def _dislikes(self, interactions: Interactions) -> Bool[np.ndarray, "n"]:
        if interactions.ratings is None:
            raise DataError(
                f"dislike_at_most is {self.dislike_at_most:g}, and the interactions have no ratings", needed="ratings"
            )
        return interactions.ratings <= self.dislike_at_most

    def positions(self, candidate_ids: Ids) -> Int32[np.ndarray, "n"]:
        """Returns the position of each candidate id in the corpus.

        Raises:
          ValueError: an id is not in the corpus.
        """
        positions = self.corpus.positions(candidate_ids)
        if len(positions) and positions.min() < 0:
            missing = candidate_ids[np.argmin(positions)].item()
            raise ValueError(f"candidate id {missing!r} is not in the corpus")
        return positions

    def targets(self, held_out: Interactions, seen: Interactions | None) -> Targets:
        """Returns what an evaluation on `held_out` asks, one query per distinct query id in it.

        Dislikes are left out of what is relevant, not of what is seen.
        """
        held_out = self.without_dislikes(held_out)
        query_ids, owners = np.unique(held_out.query_ids, return_inverse=True)
        relevant = Lists.from_pairs(owners, self.positions(held_out.candidate_ids), len(query_ids))
        seen_lists = None if seen is None else self.lists_of(query_ids, seen)
        return Targets(query_ids, self.queries.rows(query_ids), relevant, seen_lists, self._cold(relevant))

    @property
    def is_known(self) -> Bool[np.ndarray, "N"]:
        """Which candidates of the corpus the training part knows."""
        return (self.corpus_rows > 0) & (self.corpus_rows < self.candidates.num_rows)

    def of_corpus(self, of_rows: Shaped[np.ndarray, "num_rows"]) -> Shaped[np.ndarray, "N"]:
        """Returns the value of each candidate of the corpus; one that train does not know has that of row 0."""
        return of_rows[np.where(self.is_known, self.corpus_rows, UNKNOWN_ROW)]

    def _cold(self, relevant: Lists) -> Cold | None:
        places = np.cumsum(~self.is_known)[relevant.rows] - 1
        kept = ~self.is_known[relevant.rows]
        if not kept.any():
            return None
        positions = np.flatnonzero(~self.is_known).astype(np.int32)
        return Cold(positions, Lists.from_pairs(relevant.owners[kept], places[kept], len(relevant)))

    def seen_by_row(self, interactions: Interactions) -> Lists:
        """Returns the corpus positions of what each query row has in `interactions`; row 0 has nothing."""
        rows = self.queries.rows(interactions.query_ids)
        known = rows > 0
        positions = self.positions(interactions.candidate_ids[known])
        return Lists.from_pairs(rows[known], positions, self.queries.num_entities)

    def histories(self, query_ids: Ids, interactions: Interactions) -> Histories:
        """Returns what each of the queries did in `interactions`, in candidate rows, without dislikes."""
        interactions = self.without_dislikes(interactions)
        distinct_ids, which = np.unique(query_ids, return_inverse=True)
        owners = find(distinct_ids, interactions.query_ids)
        rows = self.candidates.rows(interactions.candidate_ids)
        return Histories.of(owners, rows, interactions, len(distinct_ids)).take(which)

    def lists_of(self, query_ids: Ids, interactions: Interactions) -> Lists:
        """Returns the corpus positions of what each of the sorted, unique `query_ids` interacted with."""
        owners, positions = [], []
        for piece in interactions.pieces():
            found = find(query_ids, piece.query_ids)
            ours = found >= 0
            owners.append(found[ours])
            positions.append(self.positions(piece.candidate_ids[ours]))
        return Lists.from_pairs(np.concatenate(owners), np.concatenate(positions), len(query_ids))
