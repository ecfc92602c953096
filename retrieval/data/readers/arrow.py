"""A column of a file and its vectorized conversion to NumPy, with errors that name file, line and column."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from jaxtyping import Float32, Int64, Shaped

from retrieval.common.choices import did_you_mean
from retrieval.common.errors import DataError
from retrieval.data.columns import MISSING_TEXTS
from retrieval.data.ids import Ids
from retrieval.data.ratings import check_ratings
from retrieval.data.readers.arrow_types import is_text
from retrieval.data.text_ids import check_text_ids
from retrieval.data.times import Times, first_failure, from_arrow

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a file as Arrow data.

    Attributes:
      file: name of the file in errors.
      name: name of the column.
      values: text from a delimited file, any type from Parquet [n], n > 0.
      place: function from a row (0-based) to its place in the file: "line 3" or "row 2".
    """

    file: str
    name: str
    values: pa.ChunkedArray
    place: Callable[[int], str]

    def error(self, row: int, problem: str, remedy: str) -> DataError:
        """Returns the error for the value at `row`."""
        received = repr(self.values[row].as_py())
        received = received if len(received) <= 80 else f"{received[:77]}..."
        where = f"{self.file}, {self.place(row)}, column {self.name!r}"
        return DataError(f"{where}: {problem}, got {received}; {remedy}")

    def require(self, holds: pa.ChunkedArray | np.ndarray, problem: str, remedy: str) -> None:
        """Checks a condition on each value.

        Raises:
          DataError: `holds` [n] is False for a row; the message names the first.
        """
        row = pc.index(pa.array(holds) if isinstance(holds, np.ndarray) else holds, False).as_py()
        if row >= 0:
            raise self.error(row, problem, remedy)


def require_names(where: str, wanted: Sequence[str], found: Sequence[str]) -> None:
    """Checks that each wanted column name is among the found names exactly once.

    Raises:
      DataError: a name is missing or repeated; the message names the first.
    """
    for name in wanted:
        count = found.count(name)
        if count != 1:
            problem = f"{count} columns {name!r}" if count else f"no column {name!r}"
            remedy = "; rename all but one" if count else did_you_mean(name, found) or "; correct the name"
            raise DataError(f"{where}: {problem}, got {', '.join(map(repr, found))}{remedy}")


def to_ids(column: Column) -> Ids:
    """Converts a column to raw ids: int64 if every value is an integer, else str [n].

    Text is an integer if it is the canonical decimal form of an int64: "007", "+7" and "-0" stay text. Where integers
    become text because of others, a warning says so once.

    Raises:
      DataError: an id is missing, the column holds neither integers nor text, or see `text_ids.check_text_ids`.
    """
    values = column.values
    column.require(values.is_valid(), "missing id", "give every row an id or drop the row")
    if pt.is_integer(values.type):
        integers = cast(column, pa.int64(), "id out of range", "write ids past 2**63 - 1 as text")
    elif is_text(values.type):
        integers = canonical_integers(values)
    else:
        remedy = f"write them as integers or text, in pandas: df[{column.name!r}].astype('int64')"
        raise column.error(0, f"ids must be integers or text, the column is {values.type}", remedy)
    return _text_ids(column) if integers is None else integers.to_numpy()


def to_integer_ids(column: Column) -> Int64[np.ndarray, "n"]:
    """Converts a column to raw ids of a data set whose ids are all integers, int64 [n].

    Raises:
      DataError: an id is missing, negative, or not the canonical form of an int64.
    """
    ids = to_ids(column)
    if ids.dtype.kind == "i":
        column.require(ids >= 0, "negative id", "restore the file as it was published")
    else:
        canonical = pc.match_substring_regex(column.values, "^(0|[1-9][0-9]{0,17})$")
        column.require(canonical, "not an integer id", "restore the file as it was published")
    return ids


def require_unique(column: Column, ids: Ids) -> None:
    """Checks that the ids [n] read from a column are unique.

    Raises:
      DataError: an earlier row has the same id; the message names both rows.
    """
    _, first, row = np.unique(ids, return_index=True, return_inverse=True)
    earlier = first[row]
    repeated = np.flatnonzero(earlier != np.arange(len(ids)))
    if len(repeated):
        at = int(repeated[0])
        remedy = f"{column.place(int(earlier[at]))} has it too: keep one row per id"
        raise column.error(at, "repeated id", remedy)


def to_ratings(column: Column, low: float = 0.0, high: float = np.inf) -> Float32[np.ndarray, "n"]:
    """Converts a column to ratings, float32 [n].

    Raises:
      DataError: a rating is missing, not a finite number, or outside [low, high].
    """
    source = column.values.type
    remedy = "write a finite number, or name no rating column"
    column.require(column.values.is_valid(), "missing rating", remedy)
    if is_text(source):
        given = pc.invert(pc.is_in(pc.utf8_trim_whitespace(column.values), pa.array(MISSING_TEXTS, source)))
        column.require(given, "missing rating", remedy)
    elif not (pt.is_integer(source) or pt.is_floating(source) or pt.is_decimal(source)):
        raise column.error(0, f"a rating must be a number, the column is {source}", remedy)
    ratings = cast(column, pa.float32(), "rating is not a number", remedy).to_numpy()
    check_ratings(ratings, column.error, low, high)
    return ratings


def to_times(column: Column, unit: str = "s") -> Times:
    """Converts a column of timestamps, dates, ISO 8601 text, or numbers of the unit since 1970, to times.

    Raises:
      DataError: a timestamp is missing or no time, or numbers are of another unit; see `times.as_times`.
    """
    return from_arrow(column.values, unit, column.error)


def to_text(column: Column) -> Shaped[np.ndarray, "n"]:
    """Converts a column to text, str [n], "" for missing values."""
    column.require(pc.invert(pc.match_substring(column.values, "\0")), "text with a NUL character", "remove it")
    encoded = pc.dictionary_encode(column.values.fill_null("")).unify_dictionaries()
    texts = np.array(encoded.chunk(0).dictionary.to_pylist(), np.str_)
    return texts[np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])]


def _text_ids(column: Column) -> Ids:
    """Returns ids as text, and tells if that makes text of integers."""
    row = check_text_ids(column.values, column.error, column.name)
    if row is not None:
        LOG.warning(
            "%s, column %r: all ids are text, as some are no integers, the first %r in %s",
            *(column.file, column.name, column.values[row].as_py(), column.place(row)),
        )
    return to_text(column)


def canonical_integers(values: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Converts text to int64; None if a value is not an integer in its canonical form."""
    try:
        integers = pc.cast(values, pa.int64())
    except pa.ArrowInvalid:
        return None
    padded = pc.and_(pc.starts_with(values, "0"), pc.not_equal(values, "0"))  # pyarrow reads "007" and "0x7"
    return None if pc.any(pc.or_(padded, pc.starts_with(values, "-0"))).as_py() else integers


def cast(column: Column, kind: pa.DataType, problem: str, remedy: str) -> pa.ChunkedArray:
    """Converts values to `kind`, rounded if it is floating; the error names the first value that does not fit."""
    options = pc.CastOptions(kind, allow_float_truncate=True, allow_decimal_truncate=True)

    def convert(values: pa.ChunkedArray) -> pa.ChunkedArray:
        return pc.cast(values, options=options)

    try:
        return convert(column.values)
    except pa.ArrowInvalid:
        raise column.error(first_failure(column.values, convert), problem, remedy) from None
