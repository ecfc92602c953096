"""What the report measures itself, of a trained model and its data: no other program writes it down."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, Shaped

from experiments.report import tsne
from experiments.report.records import MODEL, POPULARITY
from retrieval.baselines import most_popular
from retrieval.common.lists import PADDING_ROW, Lists
from retrieval.data.dataset import Dataset
from retrieval.data.encoding import Targets
from retrieval.data.interactions import Interactions, Table, concatenate
from retrieval.index import Certificate, Searcher
from retrieval.pipeline.search_and_fit import Trained
from retrieval.ranking.ranks import rank_each
from retrieval.ranking.topk import top_k

LENGTH = 10  # of the lists that are looked at
MOST_QUERIES = 2000  # that are looked at
MOST_POINTS = 800  # of the map
NUM_GROUPS = 10  # of candidates by popularity
NUM_COLOURS = 6  # of the map
NUM_EXAMPLES = 4


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Who gets the recommendations: shares of groups of candidates, the most popular group first.

    Attributes:
      sizes: candidates of each group [G].
      train: share of the interactions in train [G].
      test: share of the interactions in test [G].
      lists: share of the recommendations, by system [G] each.
    """

    sizes: Int[np.ndarray, "G"]
    train: Float[np.ndarray, "G"]
    test: Float[np.ndarray, "G"]
    lists: Mapping[str, Float[np.ndarray, "G"]]


@dataclasses.dataclass(frozen=True)
class Grouping:
    """Candidates in a few groups.

    Attributes:
      column: what the groups are values of.
      names: of the groups, the most common or most popular first.
      groups: which of `names` each candidate belongs to [n].
      is_ordered: whether the groups have an order; else the last is "other".
    """

    column: str
    names: Sequence[str]
    groups: Int[np.ndarray, "n"]
    is_ordered: bool


@dataclasses.dataclass(frozen=True)
class Atlas:
    """Candidate embeddings in the plane.

    Attributes:
      points: coordinates [n, 2].
      groupings: what to colour them by.
      titles: of the candidates [n].
    """

    points: Float[np.ndarray, "n 2"]
    groupings: Sequence[Grouping]
    titles: Shaped[np.ndarray, "n"]


@dataclasses.dataclass(frozen=True)
class Example:
    """One query: what it has in train, what is recommended to it, and which of that is in its test part."""

    query_id: str
    attributes: Mapping[str, str]
    history: Sequence[str]
    num_train: int
    recommended: Sequence[tuple[str, bool]]
    num_test: int


@dataclasses.dataclass(frozen=True)
class Findings:
    """All that the report measures.

    Attributes:
      num_queries: queries of the test part.
      num_sampled: how many of them were looked at, for all but the figures.
      num_candidates: candidates of the corpus.
      ranks: of each relevant candidate, 1 is best, by system.
      certificate: how the index was chosen.
    """

    num_queries: int
    num_sampled: int
    num_candidates: int
    calibration: Calibration
    ranks: Mapping[str, Int[np.ndarray, "n"]]
    atlas: Atlas
    certificate: Certificate
    examples: Sequence[Example]


def measure(dataset: Dataset, trained: Trained, index: Searcher) -> Findings:
    """Measures what the report shows, on at most 2,000 test queries; O(queries x candidates) time."""
    recipe, encoding = trained.recipe, trained.recipe.encoding
    whole = encoding.targets(dataset.parts.test, dataset.parts.train_and_validation())
    targets = _sample(whole)
    counts = encoding.of_corpus(recipe.negatives.counts)
    candidates = np.asarray(index.embeddings)
    queries = np.asarray(recipe.query_embeddings(trained.params, targets.query_ids, trained.train))
    systems = {MODEL: (queries, candidates), POPULARITY: most_popular(counts, len(queries))}
    length = min(LENGTH, len(candidates))
    lists = {name: top_k(*embeddings, length, targets.seen)[1] for name, embeddings in systems.items()}
    ranks = {
        name: rank_each(*embeddings, targets.relevant, [targets.seen])[0].ordinal + 1
        for name, embeddings in systems.items()
    }
    return Findings(
        num_queries=len(whole.query_ids),
        num_sampled=len(targets.query_ids),
        num_candidates=len(candidates),
        calibration=calibrate(counts, targets.relevant.rows, lists),
        ranks={name: np.minimum(of_system, len(candidates)) for name, of_system in ranks.items()},
        atlas=lay_out(candidates, counts, dataset.corpus),
        certificate=index.certificate,
        examples=examples(dataset, trained.train, targets, lists[MODEL]),
    )


def _sample(targets: Targets) -> Targets:
    """Returns the targets of at most 2,000 queries, evenly spaced in the order of their ids."""
    num_queries = len(targets.query_ids)
    kept = np.unique(np.linspace(0, num_queries - 1, min(num_queries, MOST_QUERIES)).astype(int))
    relevant, seen = targets.relevant.take(kept), targets.seen.take(kept)
    return Targets(targets.query_ids[kept], targets.query_rows[kept], relevant, seen)


def calibrate(
    counts: Float[np.ndarray, "N"], test: Int[np.ndarray, "n"], lists: Mapping[str, Int[np.ndarray, "Q k"]]
) -> Calibration:
    """Compares who is recommended with who is interacted with, by groups of about equal shares of train.

    Args:
      counts: interactions of each candidate in train [N].
      test: positions of the candidates of the test part, one an interaction [n].
      lists: positions recommended to each query, by system, -1 where there is none [Q, k] each.
    """
    order = np.argsort(-counts, kind="stable")
    total = max(float(counts.sum(dtype=np.float64)), 1.0)
    middles = np.cumsum(counts[order], dtype=np.float64) - counts[order] / 2
    groups = np.empty(len(counts), np.int64)
    groups[order] = np.minimum(middles * NUM_GROUPS / total, NUM_GROUPS - 1).astype(np.int64)

    def shares(positions):
        found = np.bincount(groups[positions[positions != PADDING_ROW]], minlength=NUM_GROUPS)
        return found / max(found.sum(), 1)

    return Calibration(
        sizes=np.bincount(groups, minlength=NUM_GROUPS),
        train=np.bincount(groups, counts, NUM_GROUPS) / total,
        test=shares(test),
        lists={name: shares(of_system) for name, of_system in lists.items()},
    )


def lay_out(candidates: Float[np.ndarray, "N D"], counts: Float[np.ndarray, "N"], corpus: Table) -> Atlas:
    """Lays out the directions of the most popular candidates: those near each other are recommended together."""
    kept = np.argsort(-counts, kind="stable")[:MOST_POINTS]
    vectors = candidates[kept]
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return Atlas(tsne.embed(vectors), groupings(corpus, kept), corpus.titles[kept])


def groupings(corpus: Table, kept: Int[np.ndarray, "n"]) -> list[Grouping]:
    """Groups candidates by the first column with several values joined by "|", if there is one, and by popularity.

    Of the most common values a candidate has, the rarest tells the most. `kept` are positions, most popular first.
    """
    names = ["top 25 %", "to 50 %", "to 75 %", "rest"]
    quarters = np.arange(len(kept)) * len(names) // max(len(kept), 1)
    by_popularity = Grouping(POPULARITY, names, quarters, is_ordered=True)
    for name, column in corpus.columns.items():
        if name != "title" and column.dtype.kind == "U" and np.char.find(column[kept], "|").max(initial=-1) >= 0:
            return [Grouping(name, *_by_value(column[kept]), is_ordered=False), by_popularity]
    return [by_popularity]


def _by_value(column: Shaped[np.ndarray, "n"]) -> tuple[list[str], Int[np.ndarray, "n"]]:
    values = [set(text.split("|")) - {""} for text in column.tolist()]
    found = [value for of_one in values for value in sorted(of_one)]
    distinct, frequencies = np.unique(np.array(found, dtype=np.str_), return_counts=True)
    common = distinct[np.argsort(-frequencies, kind="stable")[:NUM_COLOURS]].tolist()
    places = [[common.index(value) for value in of_one if value in common] for of_one in values]
    return [*common, "other"], np.array([max(own, default=len(common)) for own in places], np.int64)


def examples(dataset: Dataset, train: Interactions, targets: Targets, lists: Int[np.ndarray, "Q k"]) -> list[Example]:
    """Returns the known queries at the fifths of the number of hits: typical ones, not the best."""
    relevant, known = targets.relevant.sets(), np.flatnonzero(targets.query_rows)
    owners = np.repeat(np.arange(len(lists)), lists.shape[1])
    found = lists.ravel() != PADDING_ROW
    hits = np.zeros(lists.size, bool)
    hits[found] = relevant.contain(owners[found], lists.ravel()[found])
    hits = hits.reshape(lists.shape)
    order = known[np.argsort(hits[known].sum(axis=1), kind="stable")]
    places = np.linspace(0, len(order) - 1, NUM_EXAMPLES + 2)[1:-1].astype(int) if len(order) else []
    chosen = list(dict.fromkeys(order[places].tolist()))
    pieces = (piece.take(np.isin(piece.query_ids, targets.query_ids[chosen])) for piece in train.pieces())
    ours = functools.reduce(concatenate, pieces)
    return [_example(dataset, ours, targets, relevant, lists[query], hits[query], query) for query in chosen]


def _example(dataset, train, targets, relevant: Lists, found, hits, query: int) -> Example:
    query_id, names = targets.query_ids[query], dataset.corpus.titles
    history = train.take(train.query_ids == query_id)
    if history.timestamps is not None:
        history = history.take(np.argsort(-history.timestamps, kind="stable"))
    attributes = {}
    if dataset.queries is not None and (position := dataset.queries.positions([query_id])[0]) >= 0:
        attributes = {name: str(column[position]) for name, column in dataset.queries.columns.items()}
    real = found != PADDING_ROW
    return Example(
        query_id=str(query_id),
        attributes=attributes,
        history=names[dataset.corpus.positions(history.candidate_ids[:LENGTH])].tolist(),
        num_train=len(history),
        recommended=list(zip(names[found[real]].tolist(), hits[real].tolist(), strict=True)),
        num_test=len(relevant[query]),
    )
