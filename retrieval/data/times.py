"""Times of events, from every usual form, as whole Unix seconds and the nanoseconds within them.

Numbers count from 1970 in the unit that the caller declares. Datetimes of every unit and of Python, dates and ISO 8601
text need none; those without a time zone are UTC. Files and arrays pass through the same conversions and checks.
"""

from __future__ import annotations

import calendar
import datetime
import decimal
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt
from jaxtyping import Bool, Float64, Int, Int32, Int64, Shaped

from retrieval.common.errors import DataError
from retrieval.data.columns import LATEST, MISSING_TEXTS, Refuse, RefusedValue, is_missing

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}  # parts of a second
WORDS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
USUAL = 315_532_800, 4_102_444_800  # seconds of 1980 and 2100: the times of one unit between them are none of another
A_SECOND = UNITS["ns"]
NUMBER = r"^-?[0-9]+(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?$"
DECIMAL = r"^(?P<whole>-?[0-9]{1,18})(?:\.(?P<fraction>[0-9]*))?$"
ISO = (
    r"^(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<clock>[0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,](?P<fraction>[0-9]+))?)?"
    r" ?(?P<zone>[Zz]|UTC|[+-][0-9]{2}(?::?[0-9]{2})?)?$"
)
FORMS = "use Unix seconds, datetimes or ISO 8601 text, as 2024-01-31T12:00:00Z"


class Times(NamedTuple):
    """Times of n events.

    Attributes:
      seconds: whole Unix seconds, rounded down [n].
      nanoseconds: the rest, from 0 to 999,999,999 [n]; None if all are 0.
    """

    seconds: Int64[np.ndarray, "n"]
    nanoseconds: Int32[np.ndarray, "n"] | None


def as_times(values: Any, name: str, unit: str = "s") -> Times:
    """Converts a list, an array, or a column of pandas, polars or pyarrow to times.

    >>> as_times(["2024-01-01T00:00:00.5+01:00", "2024-01-01"], "times")
    Times(seconds=array([1704063600, 1704067200]), nanoseconds=array([500000000,         0], dtype=int32))

    Args:
      values: numbers, `datetime64`, datetimes of Python or pandas, dates or ISO 8601 text [n].
      name: what the values are in errors.
      unit: key of `UNITS`, of numbers.

    Raises:
      DataError: a value is missing, not finite, no time, before 1970 or past the year 9999, or numbers are of another
        unit; the message names the row, from 0.
    """
    if isinstance(values, str | bytes) or not hasattr(values, "__iter__"):
        raise DataError(f"{name} must be a list or an array of times, got {values!r:.80}")
    if getattr(values, "ndim", 1) != 1:
        raise DataError(f"{name} must be one-dimensional, got shape {values.shape}")
    if hasattr(values, "to_arrow"):  # polars
        values = values.to_arrow()
    elif hasattr(values, "dtype") and not isinstance(values, np.ndarray):
        values = _from_pandas(values)
    if not isinstance(values, np.ndarray | pa.Array | pa.ChunkedArray):
        values = _objects(list(values))

    def refuse(row: int, problem: str, remedy: str) -> RefusedValue:
        return RefusedValue(name, row, f"{problem}, got {_shown(values[row])}; {remedy}")

    if not isinstance(values, np.ndarray):
        return from_arrow(values, unit, refuse)
    if values.dtype.kind == "O":
        return _from_objects(values, unit, refuse)
    if values.dtype.kind == "M":
        return _from_datetimes(values, refuse)
    if values.dtype.kind in "UT":
        return from_arrow(pa.array(values.tolist(), pa.string()), unit, refuse)
    if values.dtype.kind in "iuf":
        return _from_numbers(values, unit, refuse)
    if not len(values):
        return Times(np.zeros(0, np.int64), None)
    raise refuse(0, f"a timestamp must be a time, not {values.dtype}", FORMS)


def from_arrow(values: pa.Array | pa.ChunkedArray, unit: str, refuse: Refuse) -> Times:
    """Converts Arrow values to times: numbers, decimals, timestamps, dates or text.

    Args:
      values: n values.
      unit: key of `UNITS`, of numbers.
      refuse: makes the error for a row, which names the value.

    Raises:
      DataError: see `as_times`.
    """
    if pt.is_dictionary(values.type):
        values = pc.cast(values, values.type.value_type)
    kind = values.type
    _require(values.is_valid(), refuse, "missing timestamp", "give every row a time, or name no timestamp column")
    if any(test(kind) for test in (pt.is_string, pt.is_large_string, pt.is_string_view, pt.is_decimal)):
        return _from_text(pc.utf8_trim_whitespace(pc.cast(values, pa.large_string())), unit, refuse)
    if pt.is_timestamp(kind):
        return _scaled(pc.cast(values, pa.int64()).to_numpy(zero_copy_only=False), kind.unit, refuse)
    if pt.is_date32(kind):
        days = pc.cast(values, pa.int32()).to_numpy(zero_copy_only=False).astype(np.int64)
        return _scaled(days * 86_400, "s", refuse)
    if pt.is_date64(kind):
        return _scaled(pc.cast(values, pa.int64()).to_numpy(zero_copy_only=False), "ms", refuse)
    if pt.is_integer(kind) or pt.is_floating(kind):
        return _from_numbers(values.to_numpy(zero_copy_only=False), unit, refuse)
    raise refuse(0, f"a timestamp must be a time, the column is {kind}", FORMS)


def first_failure(values: pa.Array | pa.ChunkedArray, convert: Callable[[Any], Any]) -> int:
    """Returns the first row that `convert` refuses by an `ArrowInvalid`, found by bisection: some row is refused."""
    good, bad = 0, len(values)
    while bad - good > 1:  # the first `good` values convert, the first `bad` do not
        middle = (good + bad) // 2
        try:
            convert(values.slice(good, middle - good))
            good = middle
        except pa.ArrowInvalid:
            bad = middle
    return good


def written(seconds: int, nanoseconds: int) -> str:
    """Writes a time as decimal Unix seconds.

    >>> written(1700000000, 50_000_000), written(1700000000, 0)
    ('1700000000.05', '1700000000')
    """
    return f"{seconds}.{nanoseconds:09d}".rstrip("0") if nanoseconds else str(seconds)


def _from_pandas(values: Any) -> pa.Array | pa.ChunkedArray | list:
    try:
        return pa.Array.from_pandas(values)
    except (pa.ArrowException, OverflowError, TypeError):  # objects of several types
        return list(values)


def _objects(values: list) -> Shaped[np.ndarray, "n"]:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _shown(value: Any) -> str:
    value = value.as_py() if isinstance(value, pa.Scalar) else value
    return f"{value.item() if isinstance(value, np.number) else value!r:.80}"


def _require(holds: pa.Array | pa.ChunkedArray | Bool[np.ndarray, "n"], refuse: Refuse, problem: str, remedy: str):
    """Refuses the first row where `holds` is False."""
    row = pc.index(pa.array(holds) if isinstance(holds, np.ndarray) else holds, False).as_py()
    if row >= 0:
        raise refuse(row, problem, remedy)


def _from_objects(values: Shaped[np.ndarray, "n"], unit: str, refuse: Refuse) -> Times:
    """Converts Python objects, all of one form: numbers, text, or datetimes and dates."""
    forms = [_form(value) for value in values]
    _require(np.array([form != "missing" for form in forms], bool), refuse, "missing timestamp", "drop the row")
    _require(np.array([form != "" for form in forms], bool), refuse, "a timestamp must be a time", FORMS)
    kinds = sorted(set(forms))
    if len(kinds) > 1:
        row = next(row for row, form in enumerate(forms) if form != forms[0])
        raise refuse(row, f"a {forms[row]} among {forms[0]}s", "write all times in one form")
    if kinds == ["text"]:
        return from_arrow(pa.array([str(value) for value in values], pa.large_string()), unit, refuse)
    if kinds == ["datetime"]:
        parts = np.array([_instant(value) for value in values], np.int64)
        return _checked(parts[:, 0], parts[:, 1], refuse)
    if all(isinstance(value, int | np.integer) for value in values):
        fits = np.array([-(2**63) <= value < 2**63 for value in values], bool)
        _require(fits, refuse, "timestamp out of range", FORMS)
        return _from_numbers(values.astype(np.int64), unit, refuse)
    return _from_numbers(values.astype(np.float64), unit, refuse)


def _form(value: Any) -> str:
    if is_missing(value) or isinstance(value, np.datetime64) and np.isnat(value):
        return "missing"
    if isinstance(value, str):
        return "text"
    if isinstance(value, datetime.date | np.datetime64):  # a datetime is a date too
        return "datetime"
    if isinstance(value, int | float | decimal.Decimal | np.number) and not isinstance(value, bool | np.bool_):
        return "number"
    return ""


def _instant(value: datetime.date | np.datetime64) -> tuple[int, int]:
    if isinstance(value, np.datetime64):
        seconds, nanoseconds = _split_datetimes(value.reshape(1))
        return int(seconds[0]), int(nanoseconds[0])
    if not isinstance(value, datetime.datetime):
        return calendar.timegm(value.timetuple()), 0
    utc = value.utctimetuple()  # of a naive datetime: as it is
    return calendar.timegm(utc), value.microsecond * 1000 + getattr(value, "nanosecond", 0)  # pandas has nanoseconds


def _from_datetimes(values: Shaped[np.ndarray, "n"], refuse: Refuse) -> Times:
    _require(~np.isnat(values), refuse, "missing timestamp", "drop the row")
    if len(values) and np.datetime_data(values.dtype)[0] == "generic":
        raise refuse(0, "a datetime64 without a unit", "give it one, as datetime64[s]")
    return _checked(*_split_datetimes(values), refuse)


def _split_datetimes(values: Shaped[np.ndarray, "n"]) -> tuple[Int64[np.ndarray, "n"], Int64[np.ndarray, "n"]]:
    whole = values.astype("datetime64[s]")
    return whole.astype(np.int64), (values - whole).astype("timedelta64[ns]").astype(np.int64)


def _from_text(texts: pa.Array | pa.ChunkedArray, unit: str, refuse: Refuse) -> Times:
    given = pc.invert(pc.is_in(texts, pa.array(MISSING_TEXTS, texts.type)))
    _require(given, refuse, "missing timestamp", "give every row a time, or name no timestamp column")
    texts = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    if not len(texts):
        return Times(np.zeros(0, np.int64), None)
    if pc.match_substring_regex(texts[0], r"^[0-9]{4}-").as_py():
        return _from_iso(texts, refuse)
    _require(pc.match_substring_regex(texts, NUMBER), refuse, "timestamp is not a number", FORMS)
    parts = pc.extract_regex(texts, DECIMAL)
    if parts.null_count:  # exponents, or more digits than an integer has
        return _from_numbers(pc.cast(texts, pa.float64()).to_numpy(zero_copy_only=False), unit, refuse)
    whole = pc.cast(parts.field("whole"), pa.int64()).to_numpy(zero_copy_only=False)
    negative = pc.starts_with(texts, "-").to_numpy(zero_copy_only=False)
    _require(~negative, refuse, "timestamp out of range", FORMS)
    _check_unit(whole, unit, refuse)
    digits = len(str(A_SECOND // UNITS[unit])) - 1
    return _scaled(whole, unit, refuse, _fraction(parts.field("fraction"), digits))


def _from_iso(texts: pa.Array, refuse: Refuse) -> Times:
    parts = pc.extract_regex(texts, ISO)
    _require(parts.is_valid(), refuse, "timestamp is not ISO 8601", "write 2024-01-31 or 2024-01-31T12:00:00+01:00")
    date, clock = parts.field("date"), parts.field("clock")
    texts = pc.if_else(pc.equal(clock, ""), date, pc.binary_join_element_wise(date, clock, pa.scalar("T", date.type)))

    def convert(texts: pa.Array) -> pa.Array:
        return pc.cast(pc.cast(texts, pa.timestamp("s")), pa.int64())

    try:
        seconds = convert(texts).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        raise refuse(first_failure(texts, convert), "no such date or time of day", "correct it") from None
    zones = pc.dictionary_encode(parts.field("zone"))
    offsets = np.array([_offset(zone) for zone in zones.dictionary.to_pylist()], np.int64)
    local = offsets[zones.indices.to_numpy(zero_copy_only=False)]
    return _checked(seconds - local, _fraction(parts.field("fraction"), 9), refuse)


def _offset(zone: str) -> int:
    """Returns the seconds by which a zone is ahead of UTC.

    >>> _offset("Z"), _offset("-0130"), _offset("+02")
    (0, -5400, 7200)
    """
    digits = zone.lstrip("+-").replace(":", "")
    if not digits.isdigit():
        return 0
    seconds = 3600 * int(digits[:2]) + 60 * int(digits[2:] or 0)
    return -seconds if zone[0] == "-" else seconds


def _fraction(texts: pa.Array, digits: int) -> Int64[np.ndarray, "n"]:
    """Reads the first digits after a decimal point; what is finer than a nanosecond is cut off."""
    if not digits:
        return np.zeros(len(texts), np.int64)
    padded = pc.utf8_slice_codeunits(pc.utf8_rpad(texts, digits, "0"), 0, digits)
    return pc.cast(padded, pa.int64()).to_numpy(zero_copy_only=False)


def _from_numbers(numbers: Int[np.ndarray, "n"] | Float64[np.ndarray, "n"], unit: str, refuse: Refuse) -> Times:
    if numbers.dtype.kind != "f":
        _check_unit(numbers, unit, refuse)
        return _scaled(numbers.astype(np.int64), unit, refuse)
    numbers = numbers.astype(np.float64)
    _require(~np.isnan(numbers), refuse, "missing timestamp", "drop the row")
    _require(np.isfinite(numbers), refuse, "timestamp is not finite", FORMS)
    whole = np.floor(numbers)
    _check_unit(whole, unit, refuse)
    fraction = np.rint((numbers - whole) * (A_SECOND // UNITS[unit]))
    return _scaled(whole.astype(np.int64), unit, refuse, fraction.astype(np.int64))


def _check_unit(numbers: Int[np.ndarray, "n"] | Float64[np.ndarray, "n"], unit: str, refuse: Refuse) -> None:
    """Refuses numbers that are times of 1980 to 2100 in another unit, dates written as numbers, and what is no time."""
    if not len(numbers) or 0 <= numbers.min() and numbers.max() < USUAL[0] and not _are_dates(numbers):
        return
    if _are_dates(numbers) and unit == "s":
        raise refuse(0, "a date written as a number", "write it as 2024-01-31")
    for other, parts in UNITS.items():
        is_other = (numbers >= USUAL[0] * parts) & (numbers < USUAL[1] * parts)
        if other != unit and is_other.any():
            raise refuse(
                int(np.argmax(is_other)),
                f"timestamp in {WORDS[other]} where {WORDS[unit]} are read",
                f"set data.columns.timestamp_unit={other}, or in Python np.asarray(times, 'datetime64[{other}]')",
            )
    fits = (numbers >= 0) & (numbers <= LATEST * UNITS[unit])
    _require(fits, refuse, "timestamp out of range", "use Unix seconds from 1970 to 9999")


def _are_dates(numbers: Shaped[np.ndarray, "n"]) -> bool:
    """Tells whether numbers are dates of 1970 to 2100 in decimal digits, as 20240131."""
    if not (numbers.min() >= 19_700_101 and numbers.max() <= 21_001_231):
        return False
    month, day = numbers // 100 % 100, numbers % 100
    return bool(((month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


def _scaled(whole: Int64[np.ndarray, "n"], unit: str, refuse: Refuse, rest: Int64[np.ndarray, "n"] | int = 0) -> Times:
    """Divides whole numbers of a unit into seconds and nanoseconds, of which `rest` are to be added."""
    seconds, parts = np.divmod(whole, UNITS[unit])
    nanoseconds = parts * (A_SECOND // UNITS[unit]) + rest
    return _checked(seconds + nanoseconds // A_SECOND, nanoseconds % A_SECOND, refuse)


def _checked(seconds: Int64[np.ndarray, "n"], nanoseconds: Int64[np.ndarray, "n"], refuse: Refuse) -> Times:
    in_range = (seconds >= 0) & (seconds <= LATEST)
    _require(in_range, refuse, "timestamp out of range", "use times of the years 1970 to 9999")
    return Times(seconds.astype(np.int64), nanoseconds.astype(np.int32) if nanoseconds.any() else None)
