"""Evaluation of any system on held-out data: every metric with its interval, over all queries and in each slice."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Float64, Int

from retrieval.baselines.base import Training
from retrieval.data import leakage
from retrieval.data.columns import has_several
from retrieval.data.encoding import Encoding, Targets
from retrieval.data.ids import narrow
from retrieval.data.interactions import Interactions, Table, update_digest
from retrieval.data.splits import Parts
from retrieval.evaluation import slices
from retrieval.evaluation.heads import with_roots, with_roots_of_intervals
from retrieval.evaluation.measure import Catalogue, check_ks, measure
from retrieval.evaluation.per_query import Interval, PerQuery
from retrieval.evaluation.slice_metrics import SliceMetrics, measure_slices
from retrieval.evaluation.slices import Slice
from retrieval.ranking.ranking import (
    EXCLUDING_SEEN,
    INCLUDING_SEEN,
    EmbeddingRanker,
    Ranking,
    Scorer,
    ScoreRanker,
    rank_corpus,
)

SHOWN, MOST_SHOWN = ("/ndcg_at_10", "/recall_at_10", "/precision_at_10"), 4  # metrics in the repr of a result
RESAMPLES, LEVEL = 2000, 0.95  # of the bootstrap over queries


@dataclasses.dataclass(frozen=True)
class Result:
    """Metrics of one system.

    Attributes:
      per_query: every metric of every query.
      metrics: mean of each metric over the queries, by name.
      intervals: 95 % intervals of the means, see `registry.INTERVALS`; NaN where none holds.
      slices: the metrics of each slice.
    """

    per_query: PerQuery
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]
    slices: Sequence[SliceMetrics]

    def __repr__(self) -> str:
        headline = [name for name in self.metrics if name.endswith(SHOWN)]
        names = sorted(headline or self.metrics, key=lambda name: not name.startswith(EXCLUDING_SEEN))[:MOST_SHOWN]
        lines = [f"  {name} {self.metrics[name]:.4f}{_interval(self.intervals.get(name))}" for name in names]
        head = f"Result of {len(self.per_query.query_ids):,} queries, {len(self.metrics)} metrics"
        return "\n".join([f"{head}, {len(self.slices)} slices", *lines])

    @classmethod
    def of(cls, per_query: PerQuery) -> Result:
        """Returns means and intervals of the metrics of each query; with each MSE comes the RMSE."""
        intervals = per_query.intervals(resamples=RESAMPLES, level=LEVEL)
        return cls(per_query, with_roots(per_query.means()), with_roots_of_intervals(intervals), ())

    def beside(self, other: Result) -> Result:
        """Joins two results of one system, which have different metrics of the same queries.

        Raises:
          ValueError: the queries differ.
        """
        first, second = self.per_query, other.per_query
        if not np.array_equal(first.query_ids, second.query_ids):
            raise ValueError(
                f"results of {len(first.query_ids)} and {len(second.query_ids)} queries, not of the same ones; "
                "evaluate both on one test part"
            )
        return Result(
            dataclasses.replace(first, values=first.values | second.values, weights=first.weights | second.weights),
            self.metrics | other.metrics,
            self.intervals | other.intervals,
            (*self.slices, *other.slices),
        )


def _interval(ends: Interval | None) -> str:
    return "" if ends is None or math.isnan(ends[0]) else f" [{ends[0]:.4f}, {ends[1]:.4f}]"


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """A held-out part prepared for the evaluation of any system: targets, facts of train, slices, lengths of lists.

    Attributes:
      targets: the queries, their relevant candidates and the candidates that they have in train.
      catalogue: facts of train and of the corpus.
      candidate_slices: slices of the corpus.
      query_slices: slices of the queries.
      ks: lengths k of the lists.
      top_k_accuracies: lengths k of the top-k categorical accuracies.
      test_set: SHA-256 of queries, relevant, seen and cold candidates and corpus: only results with the same one can
        be compared.
    """

    targets: Targets
    catalogue: Catalogue
    candidate_slices: Sequence[Slice]
    query_slices: Sequence[Slice]
    ks: Sequence[int]
    top_k_accuracies: Sequence[int]
    test_set: str

    @classmethod
    def of(
        cls,
        train: Interactions,
        held_out: Interactions,
        corpus: Table,
        queries: Table | None = None,
        *,
        ks: Sequence[int],
        top_k_accuracies: Sequence[int] = (),
        dislike_at_most: float | None = None,
        repeats: bool = False,
    ) -> Evaluation:
        """Prepares the evaluation on `held_out` of systems that have seen `train`.

        Args:
          train: all interactions before the held-out part, validation included.
          held_out: the interactions to predict.
          corpus: all candidates; its first column with several values in a row, as genres, measures the diversity.
          queries: attributes of the queries, for the slices.
          ks: lengths k of the lists of the metrics at k.
          top_k_accuracies: lengths k of the top-k categorical accuracies.
          dislike_at_most: interactions with a rating up to this are neither positive nor relevant.
          repeats: whether train may hold pairs that are held out; such a pair is no hit where the seen are excluded.

        Raises:
          LeakageError: a ValueError; train has a (query, candidate) pair that is held out, and `repeats` is False.
          ValueError: a k is below 1, a candidate is not in the corpus, or nothing is relevant.
        """
        check_ks([*ks, *top_k_accuracies])
        leakage.check_parts(Parts(train, None, held_out), repeats=repeats)
        encoding = Encoding.fit(train, corpus, dislike_at_most)
        targets = encoding.targets(held_out, train)
        if not len(targets.query_ids):
            raise ValueError(f"nothing is relevant: all of the {len(held_out)} events held out are dislikes")
        training = Training.of(train, corpus, dislike_at_most)
        histories = encoding.lists_of(targets.query_ids, encoding.without_dislikes(train)).sets()
        positions = np.full(len(targets.query_ids), -1) if queries is None else queries.positions(targets.query_ids)
        return cls(
            targets,
            Catalogue(training.counts, len(training.histories), histories, _features(corpus)),
            slices.of_candidates(training.counts, encoding.is_known, corpus),
            slices.of_queries(histories.lengths, targets.query_rows > 0, positions, queries),
            tuple(ks),
            tuple(top_k_accuracies),
            _fingerprint(targets, corpus),
        )

    def rank(
        self,
        queries: Float[Array, "Q D"] | Float32[np.ndarray, "Q D"],
        candidates: Float[Array, "N D"] | Float32[np.ndarray, "N D"],
    ) -> dict[str, Ranking]:
        """Ranks the corpus by embeddings of the queries of `targets` and of the corpus; see `ranking.rank_corpus`."""
        return rank_corpus(EmbeddingRanker(queries, candidates), self.targets, self._list_length)

    def rank_by(self, scorer: Scorer) -> dict[str, Ranking]:
        """Ranks the corpus by a scorer's scores of the queries' histories; see `ranking.rank_corpus`."""
        ranker = ScoreRanker(scorer, self.catalogue.histories, len(self.catalogue.counts))
        return rank_corpus(ranker, self.targets, self._list_length)

    def measure(self, rankings: Mapping[str, Ranking], *, resamples: int = RESAMPLES) -> Result:
        """Computes every metric of a system's rankings, with intervals, over all queries and in each slice.

        Slices are measured under `excluding_seen`, or `including_seen` where the seen candidates are not known.

        Args:
          rankings: by protocol, from `rank` or `rank_by`.
          resamples: resamples of the bootstrap.
        """
        per_query = measure(
            rankings,
            self.targets,
            ks=self.ks,
            top_k_accuracies=self.top_k_accuracies,
            catalogue=self.catalogue,
            test_set=self.test_set,
        )
        protocol = EXCLUDING_SEEN if EXCLUDING_SEEN in rankings else INCLUDING_SEEN
        sliced = measure_slices(
            self.candidate_slices,
            self.query_slices,
            protocol,
            rankings[protocol],
            self.targets.relevant,
            per_query,
            ks=self.ks,
            resamples=resamples,
            level=LEVEL,
        )
        intervals = per_query.intervals(resamples=resamples, level=LEVEL)
        return Result(per_query, per_query.means(), intervals, sliced)

    @property
    def _list_length(self) -> int:
        return max(self.ks, default=0)


def _features(corpus: Table) -> Float64[np.ndarray, "N F"] | None:
    """Returns the values of each candidate in the first column with several values in a row, as genres, one-hot.

    None where there is no such column, or all have too many values to be categories.
    """
    for name, values in corpus.columns.items():
        if name != "title" and has_several(values):
            groups = [group.members for group in slices.of_column(name, values) if group.value != "missing"]
            if groups:
                return np.array(groups, np.float64).T
    return None


def _fingerprint(targets: Targets, corpus: Table) -> str:
    """Returns the SHA-256 of targets and corpus.

    It does not depend on the order of the interactions, but on that of the corpus, which breaks ties.
    """
    digest = hashlib.sha256()
    relevant, seen = targets.relevant.sets(), targets.seen.sets()
    parts: dict[str, Int[np.ndarray, "n"] | Bool[np.ndarray, "n"]] = {
        "queries": narrow(targets.query_ids),
        "corpus": narrow(corpus.ids),
        "relevant": relevant.rows,
        "relevant_offsets": relevant.offsets,
        "seen": seen.rows,
        "seen_offsets": seen.offsets,
        "cold": np.zeros(0, np.int32) if targets.cold is None else targets.cold.positions,
    }
    for name, column in parts.items():
        update_digest(digest, name, column.dtype, len(column), [column])
    return digest.hexdigest()
