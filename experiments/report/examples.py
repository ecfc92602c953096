"""Example users: the items of a few test users in train, beside their recommendations."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Int

from retrieval.common.lists import PADDING_ROW, Lists
from retrieval.data.dataset import Dataset
from retrieval.data.encoding import Targets
from retrieval.data.interactions import Interactions, concatenate

NUM_EXAMPLES = 4
MOST_TITLES = 10  # of the history


@dataclasses.dataclass(frozen=True)
class Example:
    """A test user.

    Attributes:
      query_id: raw id.
      attributes: raw columns of the user, by name.
      history: titles of the items in train, at most ten: the latest first, or in file order without times.
      num_train: number of interactions in train.
      recommended: titles, best first, each with whether it is in the test part.
      num_test: number of items in the test part.
    """

    query_id: str
    attributes: Mapping[str, str]
    history: Sequence[str]
    num_train: int
    recommended: Sequence[tuple[str, bool]]
    num_test: int

    @property
    def num_hits(self) -> int:
        """Number of recommended items that are in the test part."""
        return sum(is_hit for _, is_hit in self.recommended)


def choose_examples(
    dataset: Dataset, train: Interactions, targets: Targets, lists: Int[np.ndarray, "Q k"]
) -> list[Example]:
    """Returns the users of train at the fifths of the number of hits: typical ones, not the best.

    Args:
      dataset: has titles and attributes.
      train: interactions before the test part.
      targets: of the Q test users.
      lists: recommended positions of each user, best first, `PADDING_ROW` at the end of a short list [Q, k].
    """
    relevant = targets.relevant.sets()
    is_hit = _hits(relevant, lists)
    known = np.flatnonzero(targets.query_rows)
    order = known[np.argsort(is_hit[known].sum(axis=1), kind="stable")]
    ranks = np.linspace(0, len(order) - 1, NUM_EXAMPLES + 2)[1:-1].astype(int) if len(order) else []
    chosen = list(dict.fromkeys(order[ranks].tolist()))
    pieces = (piece.take(np.isin(piece.query_ids, targets.query_ids[chosen])) for piece in train.pieces())
    histories = functools.reduce(concatenate, pieces)
    return [
        _example(dataset, histories, targets.query_ids[query], lists[query], is_hit[query], len(relevant[query]))
        for query in chosen
    ]


def _hits(relevant: Lists, lists: Int[np.ndarray, "Q k"]) -> Bool[np.ndarray, "Q k"]:
    owners, found = np.repeat(np.arange(len(lists)), lists.shape[1]), lists.ravel() != PADDING_ROW
    hits = np.zeros(lists.size, bool)
    hits[found] = relevant.contain(owners[found], lists.ravel()[found])
    return hits.reshape(lists.shape)


def _example(dataset: Dataset, histories: Interactions, query_id, positions, is_hit, num_test: int) -> Example:
    titles = dataset.corpus.titles
    history = histories.take(histories.query_ids == query_id)
    if history.timestamps is not None:
        history = history.take(history.order_by_time()[::-1])
    attributes = {}
    if dataset.queries is not None and (row := dataset.queries.positions([query_id])[0]) >= 0:
        attributes = {name: str(column[row]) for name, column in dataset.queries.columns.items()}
    is_real = positions != PADDING_ROW
    return Example(
        query_id=str(query_id),
        attributes=attributes,
        history=titles[dataset.corpus.positions(history.candidate_ids[:MOST_TITLES])].tolist(),
        num_train=len(history),
        recommended=list(zip(titles[positions[is_real]].tolist(), is_hit[is_real].tolist(), strict=True)),
        num_test=num_test,
    )
