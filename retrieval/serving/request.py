"""`Request`: the arguments of a call, for one query or many, as rows, histories and raw features of a tower."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64, Shaped

from retrieval.common.lists import Lists
from retrieval.data.columns import LATEST
from retrieval.data.ids import Ids, as_ids, check_unknown, listed
from retrieval.data.vocabulary import UNKNOWN_ROW, Vocabulary
from retrieval.features.entities import Columns, EntityFeatures, Raw, as_columns, ids_of


@dataclasses.dataclass(frozen=True)
class Request:
    """The queries, or candidates, whose embeddings a call needs.

    Attributes:
      is_single: whether the call is about a single one; its answers lack the first dimension.
      rows: in the vocabulary [Q], 0 for unseen ids.
      known: whether train has them [Q].
      ids: raw ids [Q]; None: not given.
      history: raw candidate ids of each; None: not given.
      features: raw columns of each; None: not given.
      times: of the requests in Unix seconds [Q]; None: not given.
      argument: name of the argument that holds the ids, for errors.
    """

    is_single: bool
    rows: Int32[np.ndarray, "Q"]
    known: Bool[np.ndarray, "Q"]
    ids: Ids | None
    history: Sequence | np.ndarray | None
    features: Raw | None
    times: Int64[np.ndarray, "Q"] | None
    argument: str

    @classmethod
    def from_arguments(
        cls, vocabulary: Vocabulary, ids: Any, history: Any, features: Raw | None, times: Any, argument: str
    ) -> Request:
        """Returns the request of a call with these arguments, for a single one or many; O(Q log size) time.

        Args:
          vocabulary: of the ids.
          ids: a raw id or ids; None: those of `features`, if it has them.
          history: of each; flat for a single one without an id.
          features: a mapping for a single one, a sequence of mappings, or a table.
          times: of each, or a number for all.
          argument: name of the argument that holds the ids.

        Raises:
          ValueError: nothing is given, lengths differ, or ids are of another type than those of the vocabulary.
        """
        ids, history = listed(ids), listed(history)
        is_single = is_single_request(ids, history, features)
        if ids is None and features is not None:
            ids = ids_of(features)
        elif is_single and ids is not None:
            ids = [ids]
        if history is not None and is_single:
            history = [history]
        if ids is not None:
            ids = as_ids(ids, argument)
            with named(argument):
                rows = vocabulary.rows(ids)
            check_unknown(ids[rows == UNKNOWN_ROW], lambda known: bool(vocabulary.rows([known])[0]), argument)
        elif history is not None or features is not None:
            number = as_columns(features)[0] if history is None else len(history)
            rows = np.full(number, UNKNOWN_ROW, np.int32)
        else:
            others = "features" if argument == "candidate_id" else "history or features"
            raise ValueError(f"{argument}, {others} is needed, received none of them")
        if history is not None:
            _check_length("history", history, len(rows), "list")
        if times is not None:
            times = _as_times(times, len(rows))
        known = (rows != UNKNOWN_ROW) & (rows < vocabulary.num_rows)
        return cls(is_single, rows, known, ids, history, features, times, argument)

    def shaped(self, answer: Shaped[np.ndarray, "Q ..."]) -> Shaped[np.ndarray, "..."]:
        """Returns an answer without its first dimension if the request is a single one, else as it is."""
        return answer[0, ...] if self.is_single else answer

    def table_columns(self, features: EntityFeatures) -> Columns:
        """Returns the columns of features that a tower reads: of the given features, or else those of the rows.

        Raises:
          ValueError: features are given and the tower reads none, or see `EntityFeatures.of_raw`.
        """
        if self.features is None:
            return features.of_rows(self.rows)
        if not features.encoders:
            raise ValueError(f"features were given, and the tower of {self.argument} reads none; leave them out")
        return features.of_raw(self.rows, self.ids, self.features)


def is_single_request(ids: Any, history: Any, features: Raw | None) -> bool:
    """Tells whether arguments are about a single query: by its id, else its flat history, else its mapping of features.

    >>> is_single_request(7, None, None), is_single_request([7], None, None)
    (True, False)
    >>> is_single_request(None, [3, 4], None), is_single_request(None, [[3, 4]], None)
    (True, False)

    Raises:
      ValueError: the history is no list.
    """
    if history is not None:
        _check_listed("history", history)
    if ids is not None:
        return _is_single(ids)
    if history is not None:
        return len(history) > 0 and _is_single(history[0])
    return isinstance(features, Mapping)


def one_list_each(name: str, values: Any, request: Request) -> Sequence | np.ndarray:
    """Returns a list for each query of a request; for a single query, `values` is its list.

    Raises:
      ValueError: `values` are no list, or not one for each query.
    """
    values = listed(values)
    if request.is_single:
        return [[values] if _is_single(values) else values]
    _check_listed(name, values)
    _check_length(name, values, len(request.rows), "list")
    return values


def lists_of(
    name: str, ids: Sequence | np.ndarray, find: Callable[[Ids], Int32[np.ndarray, "m"]], missing: int
) -> Lists:
    """Returns the rows that `find` gives for lists of raw ids, in one call, without those of missing ids.

    Args:
      name: argument that holds the lists, for errors.
      ids: lists of raw ids.
      find: maps ids to rows.
      missing: the row of an id that is not found.

    Raises:
      ValueError: an entry is no list of ids, or some are strings and others integers.
    """
    with named(name):
        arrays = [as_ids(entry, "each entry") for entry in ids]
        filled = [entry for entry in arrays if len(entry)]
        if len({entry.dtype.kind for entry in filled}) > 1:
            raise ValueError("candidate ids must be all integers or all strings, got lists of both")
        flat = np.concatenate(filled or [np.zeros(0, np.int64)])
        found = find(flat)
    check_unknown(flat[found == missing], lambda known: find(np.array([known]))[0] != missing, name)
    owners = np.repeat(np.arange(len(arrays)), [len(entry) for entry in arrays])
    return Lists.from_pairs(owners[found != missing], found[found != missing], len(arrays))


@contextlib.contextmanager
def named(argument: str) -> Iterator[None]:
    """Puts the name of an argument before the message of a ValueError that the block raises."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{argument}: {error}") from None


def _is_single(value: Any) -> bool:
    """Tells an id from a list of ids."""
    return isinstance(value, str) or (not isinstance(value, Sequence) and np.ndim(value) == 0)


def _as_times(times: Any, number: int) -> Int64[np.ndarray, "Q"]:
    """Returns the times of `number` requests, from one for each or one for all."""
    try:
        given = np.asarray(listed(times))
    except ValueError:  # of NumPy: lists of different lengths
        given = np.asarray("")
    if given.dtype.kind not in "iuf":
        from retrieval.data.times import as_times  # here, as answers need no pyarrow unless times are no numbers

        given = as_times([times] if given.ndim == 0 else times, "times").seconds.reshape(given.shape)
    if not ((given >= 0) & (given <= LATEST)).all():
        raise ValueError(f"times must be Unix seconds, up to the year 9999, got {times!r}")
    given = np.full(number, given) if given.ndim == 0 else given
    _check_length("times", given, number, "time")
    return given.astype(np.int64)


def _check_listed(name: str, values: Any) -> None:
    is_list = hasattr(values, "__len__") and getattr(values, "ndim", 1) > 0
    if not is_list or isinstance(values, str | bytes | Mapping | Set):
        raise ValueError(f"{name} must be a list of ids, or a list of such lists, got {values!r}")


def _check_length(name: str, values: Sequence | np.ndarray, number: int, entry: str) -> None:
    if len(values) != number:
        raise ValueError(f"{name} needs one {entry} per query, got {len(values)} for {number} queries")
