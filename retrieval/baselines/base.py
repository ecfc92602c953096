"""The training data of a baseline, and the scorer that it becomes."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import scipy.sparse
from jaxtyping import Float32, Int, Int32, Int64

from retrieval.common.lists import Lists
from retrieval.data.encoding import Encoding
from retrieval.data.interactions import Interactions, Table
from retrieval.data.sequences import Histories
from retrieval.ranking.ranking import Scorer


@dataclasses.dataclass(frozen=True)
class Training:
    """The positive interactions of the training part.

    Attributes:
      sequences: positions of the candidates that each query has, in the order of time, that of the file where there are
        no times; without repeats.
      positions: position of the candidate of each interaction [n].
      timestamps: of each interaction in Unix seconds [n], or None.
      corpus: all candidates, with their attributes.
    """

    sequences: Lists
    positions: Int32[np.ndarray, "n"]
    timestamps: Int64[np.ndarray, "n"] | None
    corpus: Table

    @classmethod
    def of(cls, train: Interactions, corpus: Table, dislike_at_most: float | None = None) -> Training:
        """Collects what a training part tells: all interactions but dislikes, with candidates of the corpus."""
        encoding = Encoding.fit(train, corpus, dislike_at_most)
        train = encoding.without_dislikes(train)
        positions = encoding.positions(train.candidate_ids)
        owners = encoding.queries.rows(train.query_ids) - 1
        sequences = Histories.of(owners, positions, train, len(encoding.queries.ids)).lists.distinct()[0]
        return cls(sequences, positions, train.timestamps, corpus)

    @functools.cached_property
    def histories(self) -> Lists:
        """The sequences as sets."""
        return self.sequences.sets()

    @property
    def num_candidates(self) -> int:
        """The size of the corpus."""
        return len(self.corpus)

    @property
    def counts(self) -> Int[np.ndarray, "N"]:
        """How many queries have each candidate."""
        return np.bincount(self.histories.rows, minlength=self.num_candidates)


def matrix(histories: Lists, num_candidates: int) -> scipy.sparse.csr_array:
    """Returns the queries' candidates as a sparse matrix of ones [q, N]; each list a set."""
    ones = np.ones(len(histories.rows), np.float32)
    return scipy.sparse.csr_array((ones, histories.rows, histories.offsets), (len(histories), num_candidates))


def or_popularity(scorer: Scorer, training: Training) -> Scorer:
    """Returns a scorer that ranks by popularity for a query without history, which tells nothing else.

    `scorer` gets histories as sets, and gives scores that may be written to.
    """
    counts = training.counts.astype(np.float32)

    def scores(histories: Lists) -> Float32[np.ndarray, "q N"]:
        found = np.array(scorer(histories.sets()), np.float32, copy=None)
        found[histories.lengths == 0] = counts
        return found

    return scores
