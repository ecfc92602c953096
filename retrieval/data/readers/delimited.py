"""Delimited text -> columns of text, by pyarrow; Python's slow csv reader only locates errors."""

from __future__ import annotations

import collections
import csv
import dataclasses
import functools
import io
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv

from retrieval.common.choices import did_you_mean
from retrieval.common.errors import DataError
from retrieval.data.readers.arrow import Column, require_names

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
BLOCK = 1 << 24  # bytes read at a time, also the longest row
END = "\0end"


@dataclasses.dataclass(frozen=True)
class Source:
    """A file of delimited UTF-8 text.

    Attributes:
      name: name of the file in errors.
      open: function that opens the file at its start; called more than once.
      delimiter: the character between fields.
      header: names of the columns, or () if the first line gives them.
      quoted: whether a field may stand in double quotes and then hold delimiters and line ends.
    """

    name: str
    open: Callable[[], BinaryIO | pa.NativeFile]
    delimiter: str
    header: Sequence[str] = ()
    quoted: bool = True

    def records(self, *after: str) -> Iterator[tuple[int, list[str]]]:
        """Yields the first line (1-based) and the fields of every record, the header included; slow.

        Bytes that are not UTF-8 become lone surrogates. The lines of `after` are read as if they ended the file.

        Raises:
          DataError: a field is too long, as after a quote that is not closed.
        """
        with self.open() as raw, io.TextIOWrapper(raw, "utf-8-sig", "surrogateescape", newline="") as text:
            quoting = csv.QUOTE_MINIMAL if self.quoted else csv.QUOTE_NONE
            rows = csv.reader(itertools.chain(text, after), delimiter=self.delimiter, quoting=quoting)
            line, limit = 1, csv.field_size_limit(BLOCK)  # the limit is of the process: restored below
            try:
                for fields in rows:
                    if fields:
                        yield line, fields
                    line = rows.line_num + 1
            except csv.Error as error:
                raise DataError(f"{self.name}, line {line}: {error}; close the quote or shorten it") from error
            finally:
                csv.field_size_limit(limit)


def require_file(path: Path) -> None:
    """Checks that `path` is a file with content.

    Raises:
      DataError: the path does not exist, is a folder, or is an empty file.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; name the file in it")
    if not path.exists():
        if not path.parent.is_dir():
            raise DataError(f"{path} does not exist, nor does its folder; correct the path")
        near = did_you_mean(path.name, os.listdir(path.parent))
        raise DataError(f"{path} does not exist{near or '; correct the path'}")
    if not path.stat().st_size:
        raise DataError(f"{path} is empty; it needs a header and rows")


def read(source: Source, columns: Sequence[str], others: bool = False) -> dict[str, Column]:
    """Reads the named columns as text, followed by all other columns if `others`.

    Raises:
      DataError: a column is missing or repeated, there are no rows, rows have different numbers of fields, a quote is
        not closed, the file has another delimiter, or the text is not UTF-8.
    """
    try:
        line, header = (0, source.header) if source.header else _read_header(source)
        where = f"{source.name}, line {line}"
        if not set(columns) <= set(header):
            _check_delimiter(where, source.delimiter, header, columns)
        columns = [*columns, *(name for name in header if others and name not in columns)]
        require_names(where, columns, header)
        table = _parse(source, header, columns)
    except (OSError, EOFError, pa.ArrowException) as error:
        raise DataError(f"{source.name} cannot be read: {error}; restore the file") from error
    if not len(table):
        raise DataError(f"{source.name} has a header and no rows; add rows or leave the file out")
    place = functools.partial(_place, source)
    return {name: Column(source.name, name, table[name], place) for name in columns}


def _read_header(source: Source) -> tuple[int, Sequence[str]]:
    """Returns the line (1-based) and the fields of the header, checking that it is text."""
    with source.open() as raw:
        start = raw.read(64)
    for is_so, problem in (
        (start[:2] in (b"\xff\xfe", b"\xfe\xff"), "is UTF-16; save it as UTF-8"),
        (start[:2] == b"\x1f\x8b", "is compressed by gzip; end its name in .csv.gz or .tsv.gz"),
        (start[:4] == b"PK\3\4", "is a zip archive or a workbook; save its sheet as CSV"),
        (b"\0" in start.partition(b"\n")[0], "is UTF-16 without its mark, or no text; save it as UTF-8"),
    ):
        if is_so:
            raise DataError(f"{source.name}, line 1: the file {problem}, got {bytes(start[:16])!r}")
    line, header = next(source.records(), (1, []))
    if not header:
        raise DataError(f"{source.name} holds blank lines only; it needs a header and rows")
    if any("\udc80" <= character <= "\udcff" for field in header for character in field):
        raise _undecodable(source)
    return line, header


def _check_delimiter(where: str, delimiter: str, header: Sequence[str], columns: Sequence[str]) -> None:
    """Checks that the header has the expected delimiter and holds names, not values."""
    counts = {other: header[0].count(other) + 1 for other in DELIMITERS if other != delimiter}
    best = max(counts, key=counts.get)
    if len(header) == 1 and counts[best] > 1:
        remedy = {",": "name it .csv", "\t": "name it .tsv"}.get(best, "write it with commas")
        problem = f"one column when divided by {DELIMITERS[delimiter]}, {counts[best]} by {DELIMITERS[best]}"
        raise DataError(f"{where}: {problem}, got {header[0][:80]!r}; {remedy}")
    if len(header) == 1 and set(header[0].split()) & set(columns):
        problem = f"one column when divided by {DELIMITERS[delimiter]}, {len(header[0].split())} by blanks"
        raise DataError(
            f"{where}: {problem}, got {header[0][:80]!r}; write {DELIMITERS[delimiter]} between the columns"
        )
    if all(field.replace(".", "", 1).isdigit() for field in header):
        raise DataError(f"{where}: values where names are expected, got {header[:8]}; begin with column names")


def _parse(source: Source, header: Sequence[str], columns: Sequence[str]) -> pa.Table:
    """Parses the columns as text. Quotes are counted first: parsing is faster if no quote can hide a line end."""
    quotes = _count_quotes(source) if source.quoted else 0
    if quotes % 2:  # pyarrow would take all rows after an open quote for one field
        _check_quotes(source)
    try:
        with source.open() as file:
            return pa.csv.read_csv(
                file,
                pa.csv.ReadOptions(column_names=source.header, block_size=BLOCK),
                pa.csv.ParseOptions(
                    delimiter=source.delimiter,
                    quote_char='"' if source.quoted else False,
                    newlines_in_values=quotes > 0,
                ),
                pa.csv.ConvertOptions(
                    include_columns=columns,
                    column_types={name: pa.string() for name in columns},
                    strings_can_be_null=False,
                ),
            )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise _explain(source, len(header), str(error)) from error


def _count_quotes(source: Source) -> int:
    """Counts the double quotes in the file."""
    with source.open() as file:
        return sum(block.count(b'"') for block in iter(lambda: file.read(BLOCK), b""))


def _check_quotes(source: Source) -> None:
    """Checks that the last quoted field is closed: an open quote swallows the rest of the file."""
    line, fields = collections.deque(source.records("\n", END), maxlen=1)[0]
    if fields != [END]:
        received = source.delimiter.join(fields).removesuffix(END).rstrip("\n")[:80]
        raise DataError(f"{source.name}, line {line}: a quote is not closed, got {received!r}; close it")


def _explain(source: Source, expected: int, reason: str) -> DataError:
    """Returns the error for a file that pyarrow refused: its first row with another number of fields, or bad byte."""
    if "invalid UTF8" in reason and "parse error" not in reason:
        return _undecodable(source)
    for line, fields in source.records():
        if len(fields) != expected:
            return DataError(
                f"{source.name}, line {line}: expected {expected} fields, found {len(fields)}, got "
                f"{str(fields)[:80]}; complete the line, or quote a field that holds the delimiter"
            )
    if "straddling" in reason:
        return DataError(f"{source.name}: a row is longer than {BLOCK >> 20} MiB; close its quotes, or shorten it")
    return DataError(f"{source.name} cannot be read: {reason}; write it again as plain delimited text")


def _undecodable(source: Source) -> DataError:
    """Returns the error for the first bytes that are not UTF-8."""
    with source.open() as file:
        content = file.read()
    try:
        content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start]
        line = max(before.count(b"\n"), before.count(b"\r")) + 1
        shown = content[max(0, error.start - 20) : error.start + 20]
        remedy = "save the file as UTF-8 (it may be Latin-1 or Windows-1252)"
        return DataError(f"{source.name}, line {line}: not UTF-8, got {shown!r}; {remedy}")
    return DataError(f"{source.name} changed while it was read; read it again")


def _place(source: Source, row: int) -> str:
    """Returns the line where a row (0-based, below the header) starts, or the row's number if that fails."""
    try:
        line, _ = next(itertools.islice(source.records(), row + (not source.header), None))
    except DataError:
        return f"row {row + 1}"
    return f"line {line}"
