"""Readers of the user's CSV, TSV and Parquet files: interactions and tables."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from retrieval.common.errors import DataError
from retrieval.data.interactions import Ids, Interactions, Table
from retrieval.data.readers import arrow as convert
from retrieval.data.readers import delimited
from retrieval.data.readers.arrow import Column
from retrieval.data.readers.arrow_types import simplified
from retrieval.data.readers.attributes import to_attribute

DELIMITERS = {".csv": ",", ".tsv": "\t", ".csv.gz": ",", ".tsv.gz": "\t"}


def read_interactions(
    path: str | Path,
    *,
    query_id: str,
    candidate_id: str,
    rating: str = "",
    timestamp: str = "",
    timestamp_unit: str = "s",
) -> Interactions:
    """Reads events from a .csv, .tsv, .csv.gz, .tsv.gz or .parquet file, in file order.

    Args:
      path: the file. Delimited text is UTF-8, with column names in its first line.
      query_id: name of the column of query ids; they are integers if all of them read as integers.
      candidate_id: name of the column of candidate ids, likewise.
      rating: name of the column of ratings, finite and not negative; "": none.
      timestamp: name of the column of timestamps, dates, ISO 8601 text or numbers; "": none.
      timestamp_unit: of numbers, which count from 1970: "s", "ms", "us" or "ns".

    Raises:
      DataError: a ValueError that names the file, the line (the row in Parquet), the column, the received
        value and the remedy.
    """
    used = [name for name in (query_id, candidate_id, rating, timestamp) if name]
    if len(set(used)) < len(used):
        raise DataError(f"{path}: query id, candidate id, rating and timestamp need a column each, got {used}")
    columns = _read_columns(Path(path).expanduser(), used)
    times = convert.to_times(columns[timestamp], timestamp_unit) if timestamp else None
    return Interactions.checked_before(
        query_ids=convert.to_ids(columns[query_id]),
        candidate_ids=convert.to_ids(columns[candidate_id]),
        ratings=convert.to_ratings(columns[rating]) if rating else None,
        timestamps=times and times.seconds,
        nanoseconds=times and times.nanoseconds,
    )


def read_table(path: str | Path, id_column: str) -> Table:
    """Reads a table of entities from a .csv, .tsv, .csv.gz, .tsv.gz or .parquet file, in file order.

    All other columns become attributes, see `attributes.to_attribute`.

    Raises:
      DataError: a ValueError that names the file, the line (the row in Parquet), the column, the received
        value and the remedy.
    """
    columns = _read_columns(Path(path).expanduser(), [id_column], others=True)
    ids = convert.to_ids(columns[id_column])
    convert.require_unique(columns[id_column], ids)
    attributes = {n: to_attribute(column) for n, column in columns.items() if n != id_column}
    return Table(ids, attributes)


def same_type(*ids: Ids) -> tuple[Ids, ...]:
    """Converts columns of ids, each [n], to text if one of them is text.

    >>> same_type(np.array([7, 8]), np.array(["7", "x"]))[0]
    array(['7', '8'], dtype='<U21')
    """
    some_text = any(column.dtype.kind == "U" for column in ids)
    return tuple(column.astype(np.str_) if some_text else column for column in ids)


def _read_columns(path: Path, names: Sequence[str], others: bool = False) -> dict[str, Column]:
    """Reads the named columns of a file of any format, followed by all other columns if `others`."""
    delimited.require_file(path)
    ending = next((known for known in (*DELIMITERS, ".parquet") if path.name.lower().endswith(known)), "")
    if not ending:
        known = ", ".join((*DELIMITERS, ".parquet"))
        raise DataError(f"{path} has an unknown format, got the ending {path.suffix!r}; write one of {known}")
    if ending == ".parquet":
        return _read_parquet(path, names, others)
    open_ = functools.partial(pa.input_stream, str(path), compression="gzip" if ending.endswith(".gz") else None)
    source = delimited.Source(str(path), open_, DELIMITERS[ending])
    return delimited.read(source, names, others)


def _read_parquet(path: Path, names: Sequence[str], others: bool) -> dict[str, Column]:
    try:
        with pa.parquet.ParquetFile(path, page_checksum_verification=True) as file:
            found = file.schema_arrow.names
            names = [*names, *(name for name in found if others and name not in names)]
            convert.require_names(str(path), names, found)
            table = file.read(names)
        table.validate(full=True)  # pyarrow does not check that text is UTF-8
    except (OSError, UnicodeDecodeError, pa.ArrowException) as error:
        raise DataError(f"{path} is not a readable Parquet file: {error}; write it again") from error
    if not len(table):
        raise DataError(f"{path} has no rows; add rows or leave the file out")
    return {name: parquet_column(path, name, table[name]) for name in names}


def parquet_column(path: Path, name: str, values: pa.ChunkedArray, start: int = 0) -> Column:
    """Returns the values of a column of a Parquet file from row `start` (0-based) on, in their simplest type.

    Raises:
      DataError: pyarrow cannot convert the type; the message says what to do.
    """
    try:
        simple = simplified(values)
    except pa.ArrowException as error:
        problem = f"a column of type {values.type} cannot be read: {error}"
        raise DataError(f"{path}, column {name!r}: {problem}; cast it, in pyarrow: column.cast(...)") from None
    return Column(str(path), name, simple, lambda row: f"row {start + row + 1}")
