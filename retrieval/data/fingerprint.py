"""The fingerprint of a data set: a digest of each column, by which two data sets are compared column by column."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

ROWS = "rows"  # the number of rows, beside the digests of the columns


@dataclasses.dataclass(frozen=True)
class Source:
    """Where a table of a data set was read from, as messages name it.

    Attributes:
      place: the field of the config and the file, as "data.candidates (items.csv)".
      columns: the names that columns have in the file, where they differ from those in the table.
    """

    place: str
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def column(self, name: str) -> str:
        """Returns the name of a column in the file."""
        return self.columns.get(name, name)


@dataclasses.dataclass(frozen=True)
class Fingerprint:
    """The number of rows and the SHA-256 of each column of each table of a data set.

    Attributes:
      tables: by the name of the table, as "train" or "candidates": the digest of each column, hexadecimal, and under
        `ROWS` the number of rows.
    """

    tables: Mapping[str, Mapping[str, str | int]]

    @functools.cached_property
    def sha256(self) -> str:
        """The SHA-256 of all that, hexadecimal; it does not depend on the order of the columns."""
        return hashlib.sha256(json.dumps(self.tables, sort_keys=True).encode()).hexdigest()

    def to_record(self) -> dict[str, Any]:
        """Returns what JSON can hold, for `from_record`."""
        return {name: dict(columns) for name, columns in self.tables.items()}

    @classmethod
    def from_record(cls, record: Any) -> Fingerprint:
        """Reads what `to_record` returned.

        Raises:
          ValueError: it has another form.
        """
        is_sound = isinstance(record, dict) and all(
            isinstance(columns, dict) and type(columns.get(ROWS)) is int for columns in record.values()
        )
        if not is_sound:
            raise ValueError(f"not a digest of each column: {record!r:.80}")
        return cls(record)

    def differences(self, now: Fingerprint, sources: Mapping[str, Source]) -> list[str]:
        """Returns a line for each file and column whose content differs from `now`, once for all parts of a file.

        Args:
          now: the fingerprint of other data.
          sources: where the tables of `now` were read from, by the name of the table.
        """
        lines: dict[str, None] = {}
        for table in dict.fromkeys([*self.tables, *now.tables]):
            source = sources.get(table, Source(f"the table {table!r}"))
            lines |= dict.fromkeys(
                f"{source.place}: {difference}"
                for difference in _differences(table, self.tables.get(table), now.tables.get(table), source)
            )
        return list(lines)


def _differences(
    table: str, before: Mapping[str, str | int] | None, now: Mapping[str, str | int] | None, source: Source
) -> list[str]:
    """Returns what differs in one table; where the number of rows does, no columns."""
    if before is None or now is None:
        return ["is new" if before is None else "is not there any more"]
    if before[ROWS] != now[ROWS]:
        return [f"{before[ROWS]} rows of {table} before, {now[ROWS]} now"]
    lines = []
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            named = source.column(name)
            column = f"column {named!r}" if named else "the column of ids"
            change = "is new" if name not in before else "is not there any more" if name not in now else "has changed"
            lines.append(f"{column} {change}")
    return lines
