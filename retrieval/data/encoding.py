"""Raw interactions -> integer rows and positions, with vocabularies from the training part alone."""

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
      candidate_rows: row of each positive candidate in its vocabulary [n]. In windows of histories, row of each target,
        -1 at interactions that are not targets [n, L].
      weights: weight of each example, or of each target, in the loss [n] or [n, L].
      context: columns that a query tower may read besides the row, by name [n, ...] each; see `TwoTower`.
      labels: labels that heads predict, by name, in the shape of the weights; NaN if unknown.
    """

    query_rows: Int32[np.ndarray, "n"]
    candidate_rows: Int32[np.ndarray, "n *L"]
    weights: Float32[np.ndarray, "n *L"]
    context: Mapping[str, Shaped[np.ndarray, "n ..."]] = types.MappingProxyType({})
    labels: Mapping[str, Float32[np.ndarray, "n *L"]] = types.MappingProxyType({})

    @property
    def are_windows(self) -> bool:
        """Whether each example is a window of a history, with several targets."""
        return self.candidate_rows.ndim == 2


class Cold(NamedTuple):
    """Targets among the cold-start candidates, which training does not know and which are ranked among themselves.

    Attributes:
      positions: positions of the cold-start candidates in the corpus, ascending [M].
      relevant: relevant cold-start candidates of each query of the evaluation, as indices into `positions`.
    """

    positions: Int32[np.ndarray, "M"]
    relevant: Lists


@dataclasses.dataclass(frozen=True)
class Targets:
    """Targets of an evaluation: the relevant candidates of each query with held-out interactions, and the seen ones.

    Attributes:
      query_ids: raw ids of the distinct queries [Q].
      query_rows: rows of the queries, 0 for unknown queries [Q].
      relevant: positions in the corpus of each query's relevant candidates.
      seen: positions in the corpus of each query's candidates in the training part, or None.
      cold: targets among the cold-start candidates; None if none of them is relevant.
    """

    query_ids: Ids
    query_rows: Int32[np.ndarray, "Q"]
    relevant: Lists
    seen: Lists | None
    cold: Cold | None = None


@dataclasses.dataclass(frozen=True)
class Encoding:
    """Maps raw ids to integers: rows of the vocabularies, and positions in the corpus.

    A *row* indexes a vocabulary (0 is unknown); a *position* indexes the corpus, the table of all candidates
    that can be retrieved, known in training or not.

    Attributes:
      queries: vocabulary of the query ids in the training part.
      candidates: vocabulary of the candidate ids in the training part.
      corpus: table of all candidates.
      corpus_rows: row of each candidate of the corpus, int32 [N].
      dislike_at_most: events with a rating up to this are dislikes, neither examples nor relevant; None: no event is.
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
        """Builds the vocabularies from the ids in `known`, usually the training part.

        Args:
          known: interactions whose ids get a row of their own.
          corpus: table of all candidates.
          dislike_at_most: see the attribute.
          queries: table of the queries that have features, known or not; None: no query has features.
          has_features: whether the candidates of the corpus have features.
        """
        query_ids, candidate_ids = known.distinct_ids
        query_vocabulary = Vocabulary(query_ids, None if queries is None else queries.ids)
        candidates = Vocabulary(candidate_ids, corpus.ids if has_features else None)
        return cls(query_vocabulary, candidates, corpus, candidates.rows(corpus.ids), dislike_at_most)

    def examples(self, interactions: Interactions) -> Examples:
        """Returns the interactions without dislikes as examples of weight 1, a broadcast array of one number."""
        interactions = self.without_dislikes(interactions)
        rows = interactions.rows_in(self.queries, self.candidates)
        return Examples(*rows, np.broadcast_to(np.float32(1.0), len(interactions)))

    def counts(self, examples: Examples) -> Float32[np.ndarray, "num_rows"]:
        """Counts the examples of each candidate row."""
        counts = np.zeros(self.candidates.num_rows, np.int64)
        for rows in windows(examples.candidate_rows):
            counts += np.bincount(rows, minlength=len(counts))
        return counts.astype(np.float32)

    def disliked(self, interactions: Interactions) -> Lists | None:
        """Returns the candidate rows that each query row disliked; None without `dislike_at_most`."""
        if self.dislike_at_most is None:
            return None
        disliked = interactions.take(self._dislikes(interactions))
        rows = self.queries.rows(disliked.query_ids), self.candidates.rows(disliked.candidate_ids)
        return Lists.from_pairs(*rows, self.queries.num_rows)

    def without_dislikes(self, interactions: Interactions) -> Interactions:
        """Returns the interactions without dislikes."""
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
        """Returns the targets of an evaluation on `held_out`, one query for each distinct query id.

        Dislikes are not relevant; disliked candidates count as seen.

        Args:
          held_out: interactions that the model has to predict.
          seen: interactions whose candidates count as seen; None: `Targets.seen` is None.
        """
        held_out = self.without_dislikes(held_out)
        query_ids, owners = np.unique(held_out.query_ids, return_inverse=True)
        relevant = Lists.from_pairs(owners, self.positions(held_out.candidate_ids), len(query_ids))
        seen_lists = None if seen is None else self.lists_of(query_ids, seen)
        return Targets(query_ids, self.queries.rows(query_ids), relevant, seen_lists, self._cold(relevant))

    @property
    def is_known(self) -> Bool[np.ndarray, "N"]:
        """Mask of the candidates of the corpus that the training part knows."""
        return (self.corpus_rows > 0) & (self.corpus_rows < self.candidates.num_rows)

    def of_corpus(self, values: Shaped[np.ndarray, "num_rows"]) -> Shaped[np.ndarray, "N"]:
        """Converts values of candidate rows to values of the corpus; a candidate not in train gets that of row 0."""
        return values[np.where(self.is_known, self.corpus_rows, UNKNOWN_ROW)]

    def _cold(self, relevant: Lists) -> Cold | None:
        indices = np.cumsum(~self.is_known)[relevant.rows] - 1  # among the cold-start candidates
        kept = ~self.is_known[relevant.rows]
        if not kept.any():
            return None
        positions = np.flatnonzero(~self.is_known).astype(np.int32)
        return Cold(positions, Lists.from_pairs(relevant.owners[kept], indices[kept], len(relevant)))

    def seen_by_row(self, interactions: Interactions) -> Lists:
        """Returns the corpus positions of each query row's candidates in `interactions`; the unknown row 0 has none."""
        rows = self.queries.rows(interactions.query_ids)
        known = rows > 0
        positions = self.positions(interactions.candidate_ids[known])
        return Lists.from_pairs(rows[known], positions, self.queries.num_entities)

    def histories(self, query_ids: Ids, interactions: Interactions) -> Histories:
        """Returns the history of each query in `interactions`, in candidate rows, without dislikes."""
        interactions = self.without_dislikes(interactions)
        distinct_ids, inverse = np.unique(query_ids, return_inverse=True)
        owners = find(distinct_ids, interactions.query_ids)
        rows = self.candidates.rows(interactions.candidate_ids)
        return Histories.of(owners, rows, interactions, len(distinct_ids)).take(inverse)

    def lists_of(self, query_ids: Ids, interactions: Interactions) -> Lists:
        """Returns the corpus positions of the candidates of each of the sorted, unique `query_ids`."""
        owners, positions = [], []
        for piece in interactions.pieces():  # interactions out of core are read a piece at a time
            found = find(query_ids, piece.query_ids)
            is_asked = found >= 0
            owners.append(found[is_asked])
            positions.append(self.positions(piece.candidate_ids[is_asked]))
        return Lists.from_pairs(np.concatenate(owners), np.concatenate(positions), len(query_ids))
