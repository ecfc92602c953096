"""Folds the repeated rows of consecutive batches."""

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
    """Consecutive batches of an epoch with their distinct rows, before padding.

    Padding is a step of its own because its size depends on the numbers of distinct rows, see `numbers`.
    """

    def __init__(
        self,
        examples: Examples,
        order: Int[np.ndarray, "n"],
        batch_size: int,
        sampler: Sampler,
        first: int = 0,
        last: int | None = None,
    ):
        """Folds the batches `first` to `last` (exclusive) of the epoch in that `order`; None: to the end.

        O(n log batch_size) time for the n examples of these batches.
        """
        last = num_batches(len(order), batch_size) if last is None else last
        shape = last - first, batch_size
        indices = order[first * batch_size : last * batch_size]
        self.is_example = (np.arange(shape[0] * batch_size) < len(indices)).reshape(shape)
        self.context = {name: self._column(column, indices, 0) for name, column in examples.context.items()}
        query_rows = self._column(examples.query_rows, indices, NO_ROW)
        queue = sampler.queue(order, first * batch_size)
        # one gather for the queue and the batches: columns may be memory-mapped
        candidate_rows = gather(examples.candidate_rows, np.concatenate([queue, indices]))
        positives = self._column(candidate_rows, np.arange(len(queue), len(candidate_rows)), NO_ROW)
        shared, own = sampler.draw(candidate_rows.ravel(), query_rows, len(queue), first)
        self.targets = None
        if examples.are_windows:
            positives = positives.reshape(shape[0], -1)
            # targets first, other interactions last: padding then cuts a batch of windows behind its targets
            self.targets = np.argsort(positives == NO_ROW, axis=1, kind="stable").astype(np.int32)
            positives = self._targets_first(positives)
            self.query_rows, self.query_indices = list(np.maximum(query_rows, 0)), self.targets
            self.num_disliked = np.zeros(positives.shape, np.int32)
        else:
            self.query_rows, self.query_indices = _fold(query_rows)
            self.num_disliked = sampler.num_disliked(query_rows)
        self.real = positives != NO_ROW
        self.num_own = own.shape[1] // batch_size
        self.weights = self._targets_first(self._column(examples.weights, indices, 0))
        self.labels = {
            name: self._targets_first(self._column(column, indices, 0)) for name, column in examples.labels.items()
        }
        self.widths = [part.shape[1] for part in (positives, shared, own)]
        self.candidate_rows, self.candidate_indices = _fold(np.concatenate([positives, shared, own], axis=1))
        # in the order of the steps: the sampler may update its frequencies with each batch
        self.probabilities = [
            sampler.probabilities(rows, positives[step], shared[step]) for step, rows in enumerate(self.candidate_rows)
        ]

    def _column(self, column, indices, filling):
        """Returns values of the examples in the shape [steps, B, ...], the last batch padded with `filling`."""
        filled = np.full(self.is_example.shape + column.shape[1:], filling, column.dtype)
        filled[self.is_example] = gather(column, indices)
        return filled

    def _targets_first(self, column):
        """Returns a column of windows [steps, B, L] as [steps, B * L], targets first; other columns as they are."""
        if self.targets is None:
            return column
        return np.take_along_axis(column.reshape(len(column), -1), self.targets, axis=1)

    def numbers(self) -> list[Capacity]:
        """Returns the number of distinct queries, of distinct candidates and of examples of each batch."""
        batch_sizes = np.full(len(self.real), self.real.shape[1])
        num_examples = batch_sizes if self.targets is None else np.sum(self.real, axis=1)
        return list(map(Capacity, map(len, self.query_rows), map(len, self.candidate_rows), num_examples.tolist()))

    def largest(self) -> Capacity:
        """Returns the largest of each of the `numbers` over the batches."""
        return Capacity(*map(max, zip(*self.numbers(), strict=True)))

    def batches(self, steps: slice, capacity: Capacity) -> Batch:
        """Returns the batches of the given steps, padded to the capacity."""
        positives, shared, own = np.split(self.candidate_indices[steps], np.cumsum(self.widths[:-1]), axis=1)
        examples = slice(capacity.examples)
        queries, candidates = self.query_indices[steps, examples], positives[:, examples]
        real = self.real[steps, examples]
        return Batch(
            Distinct(_padded(self.query_rows[steps], capacity.queries, 0), np.maximum(queries, 0)),
            Distinct(_padded(self.candidate_rows[steps], capacity.candidates, 0), np.maximum(candidates, 0)),
            self.weights[steps, examples],
            real,
            Drawn(shared, own.reshape(*real.shape, self.num_own), self.num_disliked[steps, examples]),
            _padded(self.probabilities[steps], capacity.candidates, 1),  # the log of padding's probability is 0
            {name: column[steps] for name, column in self.context.items()},
            {name: column[steps, examples] for name, column in self.labels.items()},
        )


def _fold(rows: Int32[np.ndarray, "steps W"]) -> tuple[list[Int32[np.ndarray, "_"]], Int32[np.ndarray, "steps W"]]:
    """Returns the distinct rows of each batch, ascending, and the index of each row among them; -1 stays -1.

    O(W log W) time a step. `np.unique(return_inverse=True)` sorts indices along, which takes twice as long as a
    table from rows to indices. All steps share the table; only the entries of the current step are valid.
    """
    indices = np.full(rows.shape, NO_ROW, np.int32)
    distinct_rows = []
    index_of_row = np.empty(rows.max(initial=0) + 1, np.int32)
    for row, index in zip(rows, indices, strict=True):
        is_row = row != NO_ROW
        kept = row[is_row]
        ascending = np.sort(kept)
        distinct = ascending[np.append(True, ascending[1:] != ascending[:-1])]
        index_of_row[distinct] = np.arange(len(distinct), dtype=np.int32)
        index[is_row] = index_of_row[kept]
        distinct_rows.append(distinct)
    return distinct_rows, indices


def _padded(columns: list[Shaped[np.ndarray, "_"]], size: int, filling: int) -> Shaped[np.ndarray, "steps U"]:
    padded = np.full((len(columns), size), filling, columns[0].dtype)
    for step, column in enumerate(columns):
        padded[step, : len(column)] = column
    return padded
