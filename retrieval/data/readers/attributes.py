"""A column of a file as an attribute: text, integers, numbers, booleans, lists of text or vectors."""

from __future__ import annotations

import dataclasses
import decimal
import logging

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from jaxtyping import Float32, Shaped

from retrieval.data import columns
from retrieval.data.readers.arrow import Column, canonical_integers, cast, to_text
from retrieval.data.readers.arrow_types import is_list, is_text

LOG = logging.getLogger(__name__)
NUMBER = r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?$"  # "00501" is a code, as are long fractions
MOSTLY = 0.9  # share of numbers from which a column of text is told
EXACT_DIGITS = 15  # of decimals: float64 keeps them
AS_TEXT = "write it as text, in pyarrow: column.cast(pyarrow.string())"


def to_attribute(column: Column) -> Shaped[np.ndarray, "n ..."]:
    """Converts a column to an attribute, in one of the types of `retrieval.data.columns`.

    Text becomes numbers or booleans if every value reads as one or is a spelling of `columns.MISSING_TEXTS`, which is
    then told once; codes such as "00501" stay text. Decimals without a fraction become integers, others floats. Lists
    of floats of one length become vectors, float32; other lists become lists of text. Dates and times become text, as
    ISO 8601 has them.

    Raises:
      DataError: the column holds values of another type, as structures; a number is not exact in its type; or a list
        has a missing element.
    """
    values, kind = column.values, column.values.type
    if is_text(kind):
        return _from_text(column)
    if pt.is_boolean(kind) or pt.is_integer(kind):
        return _nullable(column, values)
    if pt.is_floating(kind):
        return pc.cast(values, pa.float32() if pt.is_float32(kind) else pa.float64()).to_numpy()
    if pt.is_decimal(kind):
        return _from_decimals(column)
    if is_list(kind):
        return _from_lists(column)
    if any(test(kind) for test in (pt.is_date, pt.is_time, pt.is_timestamp, pt.is_null)):
        return to_text(dataclasses.replace(column, values=pc.cast(values, pa.string())))
    raise column.error(0, f"a column of type {kind} is not an attribute", f"drop it, or {AS_TEXT}")


def _nullable(column: Column, values: pa.ChunkedArray) -> Shaped[np.ndarray, "n"]:
    """Converts integers or booleans, of which some may be missing."""
    kind = pa.bool_() if pt.is_boolean(values.type) else pa.int64()
    filled = dataclasses.replace(column, values=pc.fill_null(values, pa.scalar(0).cast(values.type)))
    numbers = cast(filled, kind, "number out of range", "use numbers up to 2**63 - 1, or text").to_numpy()
    return columns.with_missing(numbers, values.is_valid().to_numpy())


def _from_text(column: Column) -> Shaped[np.ndarray, "n"]:
    trimmed = pc.fill_null(pc.utf8_trim_whitespace(column.values), "")
    given = pc.invert(pc.is_in(trimmed, pa.array(columns.MISSING_TEXTS, trimmed.type)))
    present = trimmed.filter(given)
    read = _read(present)
    if read is None:
        _tell_outliers(column, trimmed)
        return to_text(column)
    marked = pc.and_(pc.invert(given), pc.not_equal(trimmed, "")).to_numpy()
    if marked.any():
        row = int(np.argmax(marked))
        LOG.warning(
            "%s, column %r: %d values are taken as missing, the first %r in %s",
            *(column.file, column.name, marked.sum(), column.values[row].as_py(), column.place(row)),
        )
    if read.dtype.kind == "f":
        numbers = np.full(len(trimmed), np.nan)
        numbers[given.to_numpy()] = read
        return numbers
    values = np.zeros(len(trimmed), read.dtype)
    values[given.to_numpy()] = read
    return columns.with_missing(values, given.to_numpy())


def _read(texts: pa.ChunkedArray) -> Shaped[np.ndarray, "m"] | None:
    """Reads texts as integers, numbers or booleans; None if they are no one of these, or there are none."""
    if not len(texts):
        return None
    if (integers := canonical_integers(texts)) is not None:
        return integers.to_numpy()
    if pc.all(pc.match_substring_regex(texts, NUMBER)).as_py():
        return pc.cast(texts, pa.float64()).to_numpy()
    lower = pc.utf8_lower(texts)
    are_booleans = pc.all(pc.is_in(lower, pa.array(["true", "false"], lower.type))).as_py()
    return pc.equal(lower, "true").to_numpy() if are_booleans else None


def _tell_outliers(column: Column, texts: pa.ChunkedArray) -> None:
    """Tells that a column is text because of a few values among numbers."""
    filled = pc.not_equal(texts, "")
    others = pc.and_(filled, pc.invert(pc.match_substring_regex(texts, NUMBER))).to_numpy()
    total = pc.sum(filled).as_py() or 0
    if others.any() and others.sum() <= (1 - MOSTLY) * total:
        row = int(np.argmax(others))
        LOG.warning(
            "%s, column %r is text, as %d of %d values are no numbers, the first %r in %s; for a column of numbers, "
            "correct them or leave them empty",
            *(column.file, column.name, others.sum(), total, column.values[row].as_py(), column.place(row)),
        )


def _from_decimals(column: Column) -> Shaped[np.ndarray, "n"]:
    values, kind = column.values, column.values.type
    if kind.scale <= 0:
        integers = cast(column, pa.int64(), "number out of range", AS_TEXT)
        return _nullable(dataclasses.replace(column, values=integers), integers)
    floats = pc.cast(values, pa.float64())
    if kind.precision > EXACT_DIGITS:
        exact = np.array(
            [value is None or decimal.Decimal(repr(float(value))) == value for value in values.to_pylist()]
        )
        column.require(exact, "a decimal of more digits than float64 has", AS_TEXT)
    return floats.to_numpy()


def _from_lists(column: Column) -> Shaped[np.ndarray, "n ..."]:
    values, kind = column.values, column.values.type.value_type
    if pt.is_floating(kind) and (vectors := _vectors(values)) is not None:
        return vectors
    tests = (is_text, pt.is_integer, pt.is_floating, pt.is_boolean, pt.is_decimal)
    if not any(test(kind) for test in tests):
        raise column.error(
            0, f"a column of type {column.values.type} is not an attribute", "drop it or write it as text"
        )
    lists = pc.cast(values, pa.large_list(pa.large_string())).to_pylist()
    found = np.fromiter((row is None or None not in row for row in lists), bool, len(lists))
    column.require(found, "a list with a missing element", "drop the missing elements")
    has_nul = np.fromiter((any("\0" in value for value in row or ()) for row in lists), bool, len(lists))
    column.require(~has_nul, "text with a NUL character", "remove it")
    return columns.as_lists((row or () for row in lists), len(lists))


def _vectors(values: pa.ChunkedArray) -> Float32[np.ndarray, "n size"] | None:
    """Converts lists of floats to vectors, empty lists to NaN; None if the lists have different lengths."""
    lengths = pc.fill_null(pc.list_value_length(values), 0).to_numpy()
    present = lengths > 0
    size = int(lengths[present][0]) if present.any() else 0
    if (lengths[present] != size).any():
        return None
    vectors = np.full((len(lengths), size), np.nan, np.float32)
    numbers = pc.cast(pc.list_flatten(values), pa.float32(), safe=False).to_numpy()
    vectors[present] = numbers.reshape(present.sum(), size)
    return vectors
