"""Adds to errors of library functions, which know no config, the field that provides what is missing."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from retrieval.common.errors import DataError

REMEDIES = {  # `DataError.needed` -> what to do in a config
    "attributes": "name the table of the candidates in data.candidates",
    "path": "set data.path",
    "ratings": "name their column in data.columns.rating",
    "repeats": "set data.drop_duplicates=False if they are meant",
    "split": "set data.split.validation_fraction=0 for no validation part, or change data.split.test_fraction or "
    "data.split.strategy",
    "timestamps": "name their column in data.columns.timestamp",
}


@contextlib.contextmanager
def naming_fields() -> Iterator[None]:
    """Adds to a `DataError` about a missing input the field of the config that provides it; also a decorator.

    >>> with naming_fields():
    ...     raise DataError("a temporal split needs timestamps", needed="timestamps")
    Traceback (most recent call last):
    ...
    retrieval.common.errors.DataError: a temporal split needs timestamps; name their column in data.columns.timestamp
    """
    try:
        yield
    except DataError as error:
        if error.needed:
            error.args, error.needed = (f"{error}; {REMEDIES[error.needed]}",), ""
        raise
