"""Context columns of a query tower: the query's history, and the time of the request."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float32, Int32, Int64, Shaped

from retrieval.data.sequences import Histories, Windows, gaps
from retrieval.features import Encoder, encoder_from_json, to_columns

Columns = dict[str, Shaped[np.ndarray, "n ..."]]
HISTORY, RATINGS = "history", "history_ratings"  # names of the columns of a history
GAPS, AGES, TIMES = "history_gaps", "history_ages", "history_times"
OF_TIMES = frozenset((GAPS, AGES, TIMES))  # columns that need the times of the interactions
RATING_STEPS = 2  # rows of the table of ratings per star: half stars


@dataclasses.dataclass(frozen=True)
class QueryContext:
    """Makes the context columns of a query tower, by the same code in training and serving.

    Attributes:
      names: names of the columns that the tower reads.
      length: L, the number of interactions in a history; 0: the tower reads no history.
      encoders: encoders of the request's time, by the name of the feature.
      now: time of a request without one, in Unix seconds: the last time in train.
      start: first time in train, in Unix seconds, from which `history_times` count.
      top_rating: highest rating in train.
      appeared: first time of each candidate row in train, in Unix seconds, from which `history_ages` count; negative
        if unknown, as for rows beyond the array.
    """

    names: tuple[str, ...] = ()
    length: int = 0
    encoders: Mapping[str, Encoder] = dataclasses.field(default_factory=dict)
    now: int = 0
    start: int = 0
    top_rating: float = 0.0
    appeared: Int64[np.ndarray, "V"] = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64), compare=False)

    def of_queries(self, histories: Histories, times: Int64[np.ndarray, "n"] | None = None) -> Columns:
        """Returns the columns of queries that ask for the candidate after their histories, [n, ...] each.

        Args:
          histories: history of each query; read only if `length` is above 0.
          times: times of the requests in Unix seconds; None: `now`.
        """
        columns = self.of_requests(times, len(histories.lists))
        return columns | self.of_histories(histories.last(self.length)) if self.length else columns

    def of_requests(self, times: Int64[np.ndarray, "n"] | None, number: int) -> Columns:
        """Returns the columns of the time of each request, [n, ...] each; `times` None stands for `now`."""
        columns: Columns = {}
        times = np.full(number, self.now, np.int64) if times is None else times
        with_now = np.append(times, self.now)  # so that the columns of 0 requests have the shapes of others
        for name, encoder in self.encoders.items():
            columns |= {key: column[:-1] for key, column in to_columns(name, encoder.encode(with_now)).items()}
        return columns

    def of_windows(self, windows: Windows) -> Columns:
        """Returns the columns of windows [n, L, ...]; the time of each interaction is the time of its request."""
        shape, times = windows.rows.shape, np.where(windows.times < 0, self.now, windows.times)
        columns = {name: column.reshape(*shape, -1) for name, column in self.of_requests(times.ravel(), 0).items()}
        return self.of_histories(windows) | columns

    def of_histories(self, windows: Windows) -> Columns:
        """Returns the columns of the history alone, without the time of the request, [n, L] each."""
        since = np.clip(windows.times - self.start, 0, np.iinfo(np.int32).max).astype(np.int32)
        columns = {
            HISTORY: windows.rows,
            RATINGS: rating_rows(windows.ratings, self.top_rating),
            GAPS: gaps(windows.times),
            AGES: ages(windows.times, windows.rows, self.appeared),
            TIMES: np.where(windows.times < 0, np.int32(0), since),
        }
        return {name: column for name, column in columns.items() if name in self.names}

    def to_json(self) -> str:
        """Returns the context as JSON text."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        encoders = {name: json.loads(encoder.to_json()) for name, encoder in self.encoders.items()}
        fields |= {"encoders": encoders, "appeared": self.appeared.tolist()}
        return json.dumps(fields, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> QueryContext:
        """Reads a context written by `to_json`.

        Raises:
          ValueError: the text does not describe a context.
        """
        try:
            fields = dict(json.loads(text))
            encoders = {name: encoder_from_json(json.dumps(content)) for name, content in fields["encoders"].items()}
            appeared = np.array(fields["appeared"], np.int64)
            return cls(**fields | {"names": tuple(fields["names"]), "encoders": encoders, "appeared": appeared})
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"not a query context: {error!r} in {text[:60]!r}") from None


def rating_rows(ratings: Float32[np.ndarray, "*S"], top: float) -> Shaped[np.ndarray, "*S"]:
    """Returns the row of each rating: 0 if unknown, then one row for each half star from 0 to `top`.

    >>> rating_rows(np.array([np.nan, 0.5, 5.0, 9.0], np.float32), 5.0)
    array([ 0,  2, 11, 11], dtype=int32)
    """
    rows = 1 + np.rint(RATING_STEPS * np.clip(np.nan_to_num(ratings), 0.0, top))
    return np.where(np.isnan(ratings), 0, rows).astype(np.int32)


def ages(
    times: Int64[np.ndarray, "n L"], rows: Int32[np.ndarray, "n L"], appeared: Int64[np.ndarray, "V"]
) -> Int32[np.ndarray, "n L"]:
    """Returns the seconds since each candidate first appeared, at least 0; -1 if one of the two times is unknown.

    >>> ages(np.array([[-1, 150, 150]]), np.array([[1, 1, 2]], np.int32), np.array([-1, 100]))
    array([[-1, 50, -1]], dtype=int32)
    """
    if not len(appeared):
        return np.full(times.shape, -1, np.int32)
    first = np.where(rows < len(appeared), appeared[np.minimum(rows, len(appeared) - 1)], -1)
    found = np.clip(times - first, 0, np.iinfo(np.int32).max).astype(np.int32)
    return np.where((times < 0) | (first < 0), np.int32(-1), found)


def num_rating_rows(top: float) -> int:
    """Returns the number of rows of the table that `rating_rows` indexes."""
    return 2 + int(np.rint(RATING_STEPS * top))
