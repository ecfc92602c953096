"""Batches of an epoch, in an order that is a pure function of (seed, epoch), with repeated rows folded.

A batch of implicit feedback names the same queries and candidates again and again: of 8192 rows of MovieLens-100K
about 900 queries and 1200 candidates are distinct. Each batch holds the distinct rows once, and for every example the
places of its two rows among them, so that towers and scores are computed once per distinct row.

Where an example is a window of a history it has a number of targets, each to be predicted from what precedes it: the
batch then holds the windows as its queries, unfolded, and each target as an example of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int32, Shaped

from retrieval.batching.negatives import NONE, Sampler
from retrieval.data.encoding import Examples
from retrieval.data.out_of_core.mapped import gather

SLACK = 20  # room beyond the fullest batch that was looked at, as a divisor: others are slightly fuller
LEAST_SLACK = 8  # in small batches the numbers vary by more than that
LOOKED_AT = 64  # batches of epoch 0 that the room for distinct rows is measured on


class Distinct(NamedTuple):
    """The distinct rows of a batch; padded at the end with row 0, which no place refers to.

    Attributes:
      rows: rows of a vocabulary, each once [U].
      places: where in `rows` the row of each example stands [B]. Of windows of L interactions: which of the U * L
        interactions, one window after the other, the example is.
    """

    rows: Int[np.ndarray, "*steps U"]
    places: Int[np.ndarray, "*steps B"]


class Drawn(NamedTuple):
    """Negatives beside the positives of a batch, as places among its distinct candidates; -1 where there is none.

    Attributes:
      shared: negatives of all examples [M].
      own: negatives of single examples, from what their queries disliked [B, H].
      num_disliked: how many candidates the query of each example disliked [B].
    """

    shared: Int[np.ndarray, "*steps M"]
    own: Int[np.ndarray, "*steps B H"]
    num_disliked: Int[np.ndarray, "*steps B"]


class Batch(NamedTuple):
    """A batch of B examples, or with a leading axis a number of batches.

    Attributes:
      queries: distinct query rows, U of them.
      candidates: distinct candidate rows, V of them; places are those of the positives.
      weights: weight of each example [B]; 0 for what only fills up the last batch.
      real: False for what only fills up the last batch [B].
      negatives: the candidates that are there for no example's positive.
      probabilities: the share of the batch's columns in which each distinct candidate is to be expected [V].
      context: columns of the examples, or of the windows, that query towers may read, by name [B, ...] each.
      labels: what heads are to predict of each example, by name; NaN where it is not known [B].
    """

    queries: Distinct
    candidates: Distinct
    weights: Float[np.ndarray, "*steps B"]
    real: Bool[np.ndarray, "*steps B"]
    negatives: Drawn
    probabilities: Float[np.ndarray, "*steps V"]
    context: dict[str, Shaped[np.ndarray, "..."]]
    labels: dict[str, Float[np.ndarray, "*steps B"]]


class Capacity(NamedTuple):
    """How much a batch has room for.

    Attributes:
      queries: distinct queries, or windows.
      candidates: distinct candidates.
      examples: examples; targets where the queries are windows.
    """

    queries: int = 0
    candidates: int = 0
    examples: int = 0


NO_CAPACITY = Capacity()


def epoch_order(num_examples: int, *, seed: int, epoch: int) -> Int32[np.ndarray, "n"]:
    """Returns the order of the examples in an epoch, in 4 bytes an example and O(n) time.

    It depends on (seed, epoch) alone, never on what came before: a resumed run sees the same batches. It is that of
    `numpy.random.default_rng((seed, epoch)).permutation(num_examples)`, which would need 8 bytes more.
    """
    order = np.arange(num_examples, dtype=np.int32)
    np.random.default_rng((seed, epoch)).shuffle(order)
    return order


def batches(
    examples: Examples,
    order: Int[np.ndarray, "n"],
    batch_size: int,
    capacity: Capacity = NO_CAPACITY,
    sampler: Sampler | None = None,
) -> Batch:
    """Returns the examples in that order as batches, with a leading axis over them; O(n log batch_size) time.

    Every example occurs once; the last batch is filled up with entries of weight 0. All batches have one shape:
    U and V are the `capacity` where that is enough, else the largest numbers of distinct rows in one of them and a
    little more, so that another order of the same examples hardly ever needs another shape. Without a `sampler`
    there are no negatives but the batch's own positives.
    """
    sampler = Sampler.of_examples(examples) if sampler is None else sampler
    stack = _Stack(examples, order, batch_size, sampler)
    limits = _limits(examples, batch_size, sampler)
    sizes = (
        own if most <= own else _with_slack(most, limit)
        for own, most, limit in zip(capacity, stack.most(), limits, strict=True)
    )
    return stack.batches(slice(None), Capacity(*sizes))


def blocks(
    examples: Examples,
    order: Int[np.ndarray, "n"],
    batch_size: int,
    capacity: Capacity,
    steps: int,
    sampler: Sampler | None = None,
) -> Iterator[Batch]:
    """Yields the batches that `batches` returns, in the same order, as blocks of up to `steps` batches.

    The blocks are of equal lengths up to one, so that a scan over them has two shapes at most and, where `steps` is
    3 or more, none of a single batch beside longer ones. U and V are the `capacity`; a batch that it does not hold
    is a block of its own with room for all rows to be distinct where they lack it. So each batch has the same
    shape, and gives the same bits, whatever `steps` is.

    Holds one block in memory; the columns of the examples may be memory-mapped.
    """
    sampler = Sampler.of_examples(examples) if sampler is None else sampler
    total = num_batches(len(order), batch_size)
    number = -(-total // steps)
    limits = _limits(examples, batch_size, sampler)
    for i in range(number):
        first, last = total * i // number, total * (i + 1) // number
        stack = _Stack(examples, order, batch_size, sampler, first, last)
        overflows = [tuple(n > own for n, own in zip(ns, capacity, strict=True)) for ns in stack.numbers()]
        start = 0
        for stop in range(1, last - first + 1):
            if stop == last - first or any(overflows[start]) or any(overflows[stop]):
                sizes = (
                    limit if more else own for more, own, limit in zip(overflows[start], capacity, limits, strict=True)
                )
                yield stack.batches(slice(start, stop), Capacity(*sizes))
                start = stop


def room(examples: Examples, order: Int[np.ndarray, "n"], batch_size: int, sampler: Sampler | None = None) -> Capacity:
    """Returns the capacity that batches of these examples hardly ever exceed.

    It is that of the fullest among the first 64 batches in `order` and 5 % more. Padding can change the rounding of
    sums: measure it on the order of epoch 0, wherever a run starts.
    """
    sampler = Sampler.of_examples(examples) if sampler is None else sampler
    last = min(LOOKED_AT, num_batches(len(order), batch_size))
    most = _Stack(examples, order, batch_size, sampler, 0, last).most()
    return Capacity(*map(_with_slack, most, _limits(examples, batch_size, sampler)))


def bytes_of(examples: Examples, batch_size: int, capacity: Capacity, sampler: Sampler | None = None) -> int:
    """Returns the bytes of one batch."""
    num_shared, num_own = (sampler.num_shared, sampler.num_own) if sampler else (0, 0)
    an_example = 4 + 4 + 4 + 1 + 4 + 4 * num_own  # two places, a weight, a flag, a number, and its own negatives
    columns = (*examples.context.values(), *examples.labels.values())
    of_columns = batch_size * sum(column.dtype.itemsize * column[:1].size for column in columns)
    return capacity.examples * an_example + 4 * num_shared + 4 * capacity.queries + 8 * capacity.candidates + of_columns


def num_batches(num_examples: int, batch_size: int) -> int:
    """Returns the number of batches of an epoch, the smaller last one included."""
    return -(-num_examples // batch_size)


def check_batch_size(batch_size: int, num_examples: int) -> None:
    """Checks that batches of that size can be taken from so many examples.

    Raises:
      ValueError: they cannot.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"batch_size must be in [1, {num_examples}], the number of training examples, got {batch_size}"
        )


class _Stack:
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
        places = order[first * batch_size : last * batch_size]
        self.there = (np.arange(shape[0] * batch_size) < len(places)).reshape(shape)
        self.context = {name: self._column(column, places, 0) for name, column in examples.context.items()}
        query_rows = self._column(examples.query_rows, places, NONE)
        queue = sampler.queue(order, first * batch_size)
        candidate_rows = gather(examples.candidate_rows, np.concatenate([queue, places]))
        positives = self._column(candidate_rows, np.arange(len(queue), len(candidate_rows)), NONE)
        shared, own = sampler.draw(candidate_rows.ravel(), query_rows, len(queue), first)
        self.targets = None  # of windows: places of the targets among all interactions, before those of all else
        if examples.are_windows:
            positives = positives.reshape(shape[0], -1)
            self.targets = np.argsort(positives == NONE, axis=1, kind="stable").astype(np.int32)
            positives = self._of_targets(positives)
            self.query_rows, self.query_places = list(np.maximum(query_rows, 0)), self.targets
            self.num_disliked = np.zeros(positives.shape, np.int32)
        else:
            self.query_rows, self.query_places = _fold(query_rows)
            self.num_disliked = sampler.num_disliked(query_rows)
        self.real = positives != NONE
        self.num_own = own.shape[1] // batch_size
        self.weights = self._of_targets(self._column(examples.weights, places, 0))
        self.labels = {
            name: self._of_targets(self._column(column, places, 0)) for name, column in examples.labels.items()
        }
        self.parts = [part.shape[1] for part in (positives, shared, own)]
        self.candidate_rows, self.candidate_places = _fold(np.concatenate([positives, shared, own], axis=1))
        self.probabilities = [
            sampler.probabilities(rows, positives[step], shared[step]) for step, rows in enumerate(self.candidate_rows)
        ]

    def _column(self, column, places, filling):
        """Returns the values of the examples in shape [steps, B, ...], filled up at the end."""
        filled = np.full(self.there.shape + column.shape[1:], filling, column.dtype)
        filled[self.there] = gather(column, places)
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
        positives, shared, own = np.split(self.candidate_places[steps], np.cumsum(self.parts[:-1]), axis=1)
        examples = slice(capacity.examples)
        queries, candidates = self.query_places[steps, examples], positives[:, examples]
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


def _limits(examples: Examples, batch_size: int, sampler: Sampler) -> Capacity:
    """Returns how much a batch holds at most."""
    targets = batch_size * int(np.prod(examples.candidate_rows.shape[1:]))
    return Capacity(batch_size, targets * (1 + sampler.num_own) + sampler.num_shared, targets)


def _with_slack(most: int, limit: int) -> int:
    return min(limit, most + max(LEAST_SLACK, most // SLACK))


def _fold(rows: Int32[np.ndarray, "steps W"]) -> tuple[list[Int32[np.ndarray, "_"]], Int32[np.ndarray, "steps W"]]:
    """Returns the distinct rows of each batch, ascending, and the place of each row among them; -1 stays -1."""
    places = np.full(rows.shape, NONE, np.int32)
    found = []
    place_of = np.empty(rows.max(initial=0) + 1, np.int32)  # a look-up is cheaper than the inverse of a sort
    for step in range(len(rows)):
        there = rows[step] != NONE
        ascending = np.sort(rows[step, there])
        distinct = ascending[np.append(True, ascending[1:] != ascending[:-1])]
        place_of[distinct] = np.arange(len(distinct), dtype=np.int32)
        places[step, there] = place_of[rows[step, there]]
        found.append(distinct)
    return found, places


def _padded(found: list[Shaped[np.ndarray, "_"]], size: int, filling: int) -> Shaped[np.ndarray, "steps U"]:
    padded = np.full((len(found), size), filling, found[0].dtype)
    for step, distinct in enumerate(found):
        padded[step, : len(distinct)] = distinct
    return padded
