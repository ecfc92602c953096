"""Consecutive batches of an epoch, with repeated rows folded."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int, Int32, Shaped

from retrieval.batching.batch import NO_ROW, Batch, Capacity, Distinct, Drawn
from retrieval.batching.sampler import Sampler
from retrieval.data.encoding import Examples
from retrieval.data.out_of_core.mapped import gather


def num_batches(num_examples: int, batch_size: int) -> int:
    """Returns the number of batches of an epoch, the smaller last one included."""
    return -(-num_examples // batch_size)


class Stack:
    """Consecutive batches of an epoch, from `first` to `last`, their distinct rows found but not padded yet."""

    def __init__(
        self,
        examples: Examples,
        order: Int[np.ndarray, "n"],
        batch_size: int,
        sampler: Sampler,
        first: int = 0,
        last: int | None = None,
    ):
        last = num_batches(len(order), batch_size) if last is None else last
        shape = last - first, batch_size
        indices = order[first * batch_size : last * batch_size]
        self.there = (np.arange(shape[0] * batch_size) < len(indices)).reshape(shape)
        self.context = {name: self._column(column, indices, 0) for name, column in examples.context.items()}
        query_rows = self._column(examples.query_rows, indices, NO_ROW)
        queue = sampler.queue(order, first * batch_size)
        candidate_rows = gather(examples.candidate_rows, np.concatenate([queue, indices]))
        positives = self._column(candidate_rows, np.arange(len(queue), len(candidate_rows)), NO_ROW)
        shared, own = sampler.draw(candidate_rows.ravel(), query_rows, len(queue), first)
        self.targets = None  # of windows: indices of the targets among all interactions, before those of all else
        if examples.are_windows:
            positives = positives.reshape(shape[0], -1)
            self.targets = np.argsort(positives == NO_ROW, axis=1, kind="stable").astype(np.int32)
            positives = self._of_targets(positives)
            self.query_rows, self.query_indices = list(np.maximum(query_rows, 0)), self.targets
            self.num_disliked = np.zeros(positives.shape, np.int32)
        else:
            self.query_rows, self.query_indices = _fold(query_rows)
            self.num_disliked = sampler.num_disliked(query_rows)
        self.real = positives != NO_ROW
        self.num_own = own.shape[1] // batch_size
        self.weights = self._of_targets(self._column(examples.weights, indices, 0))
        self.labels = {
            name: self._of_targets(self._column(column, indices, 0)) for name, column in examples.labels.items()
        }
        self.parts = [part.shape[1] for part in (positives, shared, own)]
        self.candidate_rows, self.candidate_indices = _fold(np.concatenate([positives, shared, own], axis=1))
        self.probabilities = [
            sampler.probabilities(rows, positives[step], shared[step]) for step, rows in enumerate(self.candidate_rows)
        ]

    def _column(self, column, indices, filling):
        """Returns the values of the examples in shape [steps, B, ...], filled up at the end."""
        filled = np.full(self.there.shape + column.shape[1:], filling, column.dtype)
        filled[self.there] = gather(column, indices)
        return filled

    def _of_targets(self, column):
        """Returns a column's values of the examples: those of the targets, and then of all else, for windows."""
        if self.targets is None:
            return column
        return np.take_along_axis(column.reshape(len(column), -1), self.targets, axis=1)

    def numbers(self) -> list[Capacity]:
        """Returns the numbers of distinct queries and candidates, and of examples, of each batch."""
        whole = np.full(len(self.real), self.real.shape[1])
        examples = whole if self.targets is None else np.sum(self.real, axis=1)
        return list(map(Capacity, map(len, self.query_rows), map(len, self.candidate_rows), examples.tolist()))

    def most(self) -> Capacity:
        """Returns the largest numbers of a batch."""
        return Capacity(*map(max, zip(*self.numbers(), strict=True)))

    def batches(self, steps: slice, capacity: Capacity) -> Batch:
        """Returns some of the batches, padded to so much."""
        positives, shared, own = np.split(self.candidate_indices[steps], np.cumsum(self.parts[:-1]), axis=1)
        examples = slice(capacity.examples)
        queries, candidates = self.query_indices[steps, examples], positives[:, examples]
        real = self.real[steps, examples]
        return Batch(
            Distinct(_padded(self.query_rows[steps], capacity.queries, 0), np.maximum(queries, 0)),
            Distinct(_padded(self.candidate_rows[steps], capacity.candidates, 0), np.maximum(candidates, 0)),
            self.weights[steps, examples],
            real,
            Drawn(shared, own.reshape(*real.shape, self.num_own), self.num_disliked[steps, examples]),
            _padded(self.probabilities[steps], capacity.candidates, 1),
            {name: column[steps] for name, column in self.context.items()},
            {name: column[steps, examples] for name, column in self.labels.items()},
        )


def _fold(rows: Int32[np.ndarray, "steps W"]) -> tuple[list[Int32[np.ndarray, "_"]], Int32[np.ndarray, "steps W"]]:
    """Returns the distinct rows of each batch, ascending, and the place of each row among them; -1 stays -1."""
    indices = np.full(rows.shape, NO_ROW, np.int32)
    found = []
    index_of = np.empty(rows.max(initial=0) + 1, np.int32)  # a look-up is cheaper than the inverse of a sort
    for step in range(len(rows)):
        there = rows[step] != NO_ROW
        ascending = np.sort(rows[step, there])
        distinct = ascending[np.append(True, ascending[1:] != ascending[:-1])]
        index_of[distinct] = np.arange(len(distinct), dtype=np.int32)
        indices[step, there] = index_of[rows[step, there]]
        found.append(distinct)
    return found, indices


def _padded(found: list[Shaped[np.ndarray, "_"]], size: int, filling: int) -> Shaped[np.ndarray, "steps U"]:
    padded = np.full((len(found), size), filling, found[0].dtype)
    for step, distinct in enumerate(found):
        padded[step, : len(distinct)] = distinct
    return padded
