"""What is asked of a tower, one or many: from the forms in which users say it to rows, histories and raw features."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, Int64, Shaped

from retrieval.common.lists import Lists
from retrieval.data.ids import Ids, as_ids
from retrieval.data.vocabulary import UNKNOWN_ROW, Vocabulary
from retrieval.features.entities import Columns, EntityFeatures, Raw, as_columns, ids_of


@dataclasses.dataclass(frozen=True)
class Request:
    """Queries or candidates that an embedding is asked of.

    Attributes:
      one: whether it was a single one: answers are then without their first dimension.
      rows: in the vocabulary, 0 for unknown ones [Q].
      known: whether train has them [Q].
      ids: raw ids [Q]; None: not told.
      history: raw candidate ids of each; None: not told.
      features: raw columns of each; None: not told.
      times: of the requests in Unix seconds [Q]; None: not told.
      what: the argument that tells the ids, as errors name it.
    """

    one: bool
    rows: Int32[np.ndarray, "Q"]
    known: Bool[np.ndarray, "Q"]
    ids: Ids | None
    history: Sequence[Sequence | Ids] | None
    features: Raw | None
    times: Int64[np.ndarray, "Q"] | None
    what: str

    @classmethod
    def of(cls, vocabulary: Vocabulary, ids: Any, history: Any, features: Raw | None, times: Any, what: str) -> Request:
        """Returns the request that these arguments make, each of a single one or of many; O(Q log size) time.

        Args:
          vocabulary: of the ids.
          ids: a raw id or ids; None: those of `features`, if it has them.
          history: of each, flat where it is a single one without an id.
          features: a mapping of a single one, a sequence of them, or a table.
          times: of each, or of all where it is a number.
          what: the argument that tells the ids.

        Raises:
          ValueError: nothing is told, lengths differ, or ids are of another type than those of the vocabulary.
        """
        one = is_one(ids, history, features)
        if ids is None and features is not None:
            ids = ids_of(features)
        elif one and ids is not None:
            ids = [ids]
        if history is not None and one:
            history = [history]
        if ids is not None:
            ids = as_ids(ids, what)
            with named(what):
                rows = vocabulary.rows(ids)
        elif history is not None or features is not None:
            number = as_columns(features)[0] if history is None else len(history)
            rows = np.full(number, UNKNOWN_ROW, np.int32)
        else:
            others = "features" if what == "candidate_id" else "history or features"
            raise ValueError(f"{what}, {others} is needed, received none of them")
        if history is not None:
            _check_length("history", history, len(rows), "list")
        if times is not None:
            times = _as_times(times, len(rows))
        known = (rows != UNKNOWN_ROW) & (rows < vocabulary.num_rows)
        return cls(one, rows, known, ids, history, features, times, what)

    def shaped(self, answer: Shaped[np.ndarray, "Q ..."]) -> Shaped[np.ndarray, "..."]:
        """Returns an answer as it was asked for: that of a single one without the first dimension."""
        return answer[0, ...] if self.one else answer

    def table_columns(self, features: EntityFeatures) -> Columns:
        """Returns the columns of features that a tower reads, those that are told in place of the table's.

        Raises:
          ValueError: features are told and the tower reads none, or see `EntityFeatures.of_raw`.
        """
        if self.features is None:
            return features.of_rows(self.rows)
        if not features.encoders:
            raise ValueError(f"features were given, and the tower of {self.what} reads none; leave them out")
        return features.of_raw(self.rows, self.ids, self.features)


def is_one(ids: Any, history: Any, features: Raw | None) -> bool:
    """Returns whether a single query is meant: by its id, or else its flat history, or else its mapping of features.

    Raises ValueError where the history is no list.

    >>> is_one(7, None, None), is_one([7], None, None), is_one(None, [3, 4], None), is_one(None, [[3, 4]], None)
    (True, False, True, False)
    """
    if history is not None:
        _check_listed("history", history)
    if ids is not None:
        return _is_single(ids)
    if history is not None:
        return len(history) > 0 and _is_single(history[0])
    return isinstance(features, Mapping)


def one_each(name: str, values: Sequence | np.ndarray, request: Request) -> Sequence:
    """Returns a list for each of a request: the values are one for each, or that of a single one.

    Raises:
      ValueError: they are no list, or not as many.
    """
    if request.one:
        return [[values] if _is_single(values) else values]
    _check_listed(name, values)
    _check_length(name, values, len(request.rows), "list")
    return values


def lists_of(
    name: str, ids: Sequence[Sequence | Ids], find: Callable[[Ids], Int32[np.ndarray, "m"]], missing: int
) -> Lists:
    """Returns what lists of raw ids are found as, in one look-up, without those that are missing.

    Raises:
      ValueError: one is no list of ids, or some are strings and others integers.
    """
    with named(name):
        arrays = [as_ids(of, "each entry") for of in ids]
        if len({of.dtype.kind for of in arrays if len(of)}) > 1:
            raise ValueError("candidate ids must be all integers or all strings, got lists of both")
        found = find(np.concatenate([of for of in arrays if len(of)] or [np.zeros(0, np.int64)]))
    owners = np.repeat(np.arange(len(arrays)), [len(of) for of in arrays])
    return Lists.from_pairs(owners[found != missing], found[found != missing], len(arrays))


@contextlib.contextmanager
def named(argument: str) -> Iterator[None]:
    """Lets a ValueError in the body of a with statement say which argument it is about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{argument}: {error}") from None


def _is_single(value: Any) -> bool:
    """Tells an id from a list of them."""
    return isinstance(value, str) or (not isinstance(value, Sequence) and np.ndim(value) == 0)


def _as_times(times: Any, number: int) -> Int64[np.ndarray, "Q"]:
    """Returns a time for each of so many requests, of one for all or one for each."""
    try:
        given = np.asarray(times)
    except ValueError:  # of NumPy: lists of different lengths
        given = np.asarray("")
    if given.dtype.kind not in "iuf" or not (np.abs(given.astype(np.float64)) < 2.0**63).all():
        raise ValueError(f"times must be Unix seconds, numbers that fit 64 bits, got {times!r}")
    given = np.full(number, given) if given.ndim == 0 else given
    _check_length("times", given, number, "time")
    return given.astype(np.int64)


def _check_listed(name: str, values: Any) -> None:
    is_list = hasattr(values, "__len__") and getattr(values, "ndim", 1) > 0
    if not is_list or isinstance(values, str | bytes | Mapping | Set):
        raise ValueError(f"{name} must be a list of ids, or a list of such lists, got {values!r}")


def _check_length(name: str, values: Sequence | np.ndarray, number: int, of: str) -> None:
    if len(values) != number:
        raise ValueError(f"{name} needs one {of} per query, got {len(values)} for {number} queries")
