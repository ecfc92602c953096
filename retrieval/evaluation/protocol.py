"""An evaluation of any system on held-out data: every metric with its interval, and every slice."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Float, Float32, Float64, Int

from retrieval.baselines.base import Training
from retrieval.data import leakage
from retrieval.data.encoding import Encoding, Targets
from retrieval.data.ids import narrow
from retrieval.data.interactions import Interactions, Table, update_digest
from retrieval.data.splits import Parts
from retrieval.evaluation import ranking_metrics, slices
from retrieval.evaluation.bootstrap import bootstrap_intervals, weighted_means
from retrieval.evaluation.heads import with_roots, with_roots_of_intervals
from retrieval.evaluation.measure import COLD, Catalogue, check_ks, measure, rank, rank_by
from retrieval.evaluation.per_query import PerQuery
from retrieval.evaluation.slices import Slice
from retrieval.ranking.ranking import Ranking, Scorer

SLICE_METRICS = {
    "hit_rate": ranking_metrics.hit_rate_at,
    "precision": ranking_metrics.precision_at,
    "recall": ranking_metrics.recall_at,
    "ndcg": ranking_metrics.ndcg_at,
}
RESAMPLES, LEVEL = 2000, 0.95  # of the bootstrap over queries
SLICED_VALUES = 2**24  # of all metrics, queries and slices that are in memory at a time
SLICES_AT_A_TIME = 24  # at most: of each of their metrics all resamples are in memory
Interval = tuple[float, float]


@dataclasses.dataclass(frozen=True)
class SliceFigures:
    """The figures of one slice.

    Attributes:
      of: "candidates" or "queries".
      column: what the slice is made by.
      value: which group.
      num_queries: queries with something relevant in it.
      num_relevant: relevant candidates in it, over all queries.
      figures: by name, as "excluding_seen/ndcg_at_10"; NaN where nothing is in the slice.
      intervals: of each figure.
    """

    of: str
    column: str
    value: str
    num_queries: int
    num_relevant: int
    figures: Mapping[str, float]
    intervals: Mapping[str, Interval]


@dataclasses.dataclass(frozen=True)
class Result:
    """What an evaluation says of a system.

    Attributes:
      per_query: every metric of every query.
      figures: their means, by name.
      intervals: 95 % intervals of the means, of a bootstrap over the queries.
      slices: the figures of the slices.
    """

    per_query: PerQuery
    figures: Mapping[str, float]
    intervals: Mapping[str, Interval]
    slices: Sequence[SliceFigures]

    @classmethod
    def of(cls, per_query: PerQuery) -> Result:
        """Returns figures and intervals of values of each query, and those of the roots of mean squared errors."""
        figures, intervals = per_query.figures(), per_query.intervals(resamples=RESAMPLES, level=LEVEL)
        return cls(per_query, with_roots(figures), with_roots_of_intervals(intervals), ())

    def beside(self, other: Result) -> Result:
        """Returns what this and another result say of one system that was asked both.

        Raises:
          ValueError: the queries are not the same.
        """
        ours, theirs = self.per_query, other.per_query
        if not np.array_equal(ours.query_ids, theirs.query_ids):
            raise ValueError(f"results of {len(ours.query_ids)} and {len(theirs.query_ids)} queries, not the same ones")
        return Result(
            dataclasses.replace(ours, values=ours.values | theirs.values, weights=ours.weights | theirs.weights),
            self.figures | other.figures,
            self.intervals | other.intervals,
            (*self.slices, *other.slices),
        )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What systems are asked, and how their answers are measured; the same for all of them.

    Attributes:
      targets: the queries, what is relevant to them and what they have in train.
      catalogue: what train and metadata tell of the corpus.
      candidate_slices: slices of the corpus.
      query_slices: slices of the queries.
      ks: lengths of the lists.
      top_k_accuracies: lengths of the lists of the interaction-level accuracies.
      test_set: SHA-256 of queries, relevant, seen and cold candidates and corpus: only results on the same can be
        compared.
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
          train: all that was known before, validation included.
          held_out: the interactions to predict.
          corpus: all candidates; its first column with several values in a row, as genres, measures the diversity.
          queries: attributes of the queries, for the slices.
          ks: lengths of the lists that the metrics look at.
          top_k_accuracies: likewise of the interaction-level accuracies.
          dislike_at_most: events with a rating up to this are neither positives nor relevant.
          repeats: what is held out may be in train too, and is then no hit where train is excluded.

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
        """Ranks the corpus by the embeddings of the targets' queries and of the corpus; see `evaluate.rank`."""
        return rank(queries, candidates, self.targets, k=max(self.ks, default=0))

    def rank_by(self, scorer: Scorer) -> dict[str, Ranking]:
        """Ranks the corpus by the scores of the queries' histories; see `evaluate.rank_by`."""
        catalogue = self.catalogue
        return rank_by(scorer, catalogue.histories, self.targets, len(catalogue.counts), k=max(self.ks, default=0))

    def measure(self, rankings: Mapping[str, Ranking], *, resamples: int = RESAMPLES) -> Result:
        """Returns every metric of a system's rankings, with intervals, in all and in each slice.

        Slices are of the last of the rankings of the whole corpus: of that without the seen candidates, where they are
        known.

        Args:
          rankings: by prefix, see `rank`.
          resamples: of the bootstrap.
        """
        per_query = measure(
            rankings,
            self.targets,
            ks=self.ks,
            top_k_accuracies=self.top_k_accuracies,
            catalogue=self.catalogue,
            test_set=self.test_set,
        )
        prefix = [name for name in rankings if name != COLD][-1]
        names = [f"{prefix}/{name}_at_{k}" for name, k in self._names()]
        fit = SLICED_VALUES // max(1, len(self.targets.query_ids) * len(names))
        size = max(1, min(SLICES_AT_A_TIME, fit))
        sliced = itertools.chain(self._of_candidates(rankings[prefix], size), self._of_queries(prefix, per_query))
        of_slices = []
        while batch := list(itertools.islice(sliced, size)):
            of_slices += _with_intervals(batch, names, resamples)
        intervals = per_query.intervals(resamples=resamples, level=LEVEL)
        in_range = {name: _in_range(name, interval) for name, interval in intervals.items()}
        return Result(per_query, per_query.figures(), in_range, of_slices)

    def _names(self) -> list[tuple[str, int]]:
        return [(name, k) for k in self.ks for name in SLICE_METRICS]

    def _of_candidates(self, ranking: Ranking, size: int) -> Iterator[_Sliced]:
        relevant, places = self.targets.relevant.distinct()
        in_lists = ranking.places(self.targets.relevant)[places]
        for start in range(0, len(self.candidate_slices), size):
            batch = self.candidate_slices[start : start + size]
            lists, kept = slices.restricted(relevant, batch)
            placed, shape = ranking_metrics.Placed(in_lists[kept], lists), (len(batch), len(relevant))
            values = np.array([SLICE_METRICS[name](placed, k).reshape(shape) for name, k in self._names()])
            lengths = lists.lengths.reshape(shape)
            values = np.where(lengths > 0, values, np.nan)
            for i, slice_ in enumerate(batch):
                yield _Sliced("candidates", slice_, int(lengths[i].sum()), values[:, i].T)

    def _of_queries(self, prefix: str, per_query: PerQuery) -> Iterator[_Sliced]:
        every = np.array([per_query.values[f"{prefix}/{name}_at_{k}"] for name, k in self._names()]).T
        lengths = self.targets.relevant.distinct()[0].lengths
        for slice_ in self.query_slices:
            values = np.where(slice_.members[:, None], every, np.nan)
            yield _Sliced("queries", slice_, int(lengths[slice_.members].sum()), values)


def _in_range(name: str, interval: Interval) -> Interval:
    """Returns the interval without what the figure cannot be; influence values may lie beyond it."""
    if not any(share in name for share in ("coverage", "gini")):
        return interval
    return tuple(float(np.clip(bound, 0, 1)) for bound in interval)


class _Sliced(NamedTuple):
    """The metrics of each query in one slice [Q, names], NaN where it has nothing in it."""

    of: str
    slice: Slice
    num_relevant: int
    values: Float64[np.ndarray, "Q names"]


def _with_intervals(batch: Sequence[_Sliced], names: Sequence[str], resamples: int) -> list[SliceFigures]:
    """Returns the figures of slices, all intervals from the same resamples."""
    values = np.concatenate([sliced.values for sliced in batch], axis=1)
    bounds = bootstrap_intervals(values, None, resamples=resamples, level=LEVEL, seed=0)
    columns = zip(weighted_means(values).tolist(), *(bound.tolist() for bound in bounds), strict=True)
    results = []
    for sliced in batch:
        figures, intervals = {}, {}
        for name, (mean, *interval) in zip(names, itertools.islice(columns, len(names)), strict=True):
            figures[name], intervals[name] = mean, tuple(interval)
        column, value, _ = sliced.slice
        num_queries = int(np.sum(~np.isnan(sliced.values).all(axis=1)))
        results.append(SliceFigures(sliced.of, column, value, num_queries, sliced.num_relevant, figures, intervals))
    return results


def _features(corpus: Table) -> Float64[np.ndarray, "N F"] | None:
    """Returns which values each candidate has in the first column that holds several in one row, as genres.

    None where no column does, or only such as have too many values to be categories.
    """
    for name, values in corpus.columns.items():
        if name != "title" and values.dtype.kind == "U" and (np.strings.find(values, slices.SEPARATOR) >= 0).any():
            groups = [group.members for group in slices.of_column(name, values) if group.value != "missing"]
            if groups:
                return np.array(groups, np.float64).T
    return None


def _fingerprint(targets: Targets, corpus: Table) -> str:
    """Returns the SHA-256 of what is asked, whatever the order of interactions; that of the corpus breaks ties."""
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
