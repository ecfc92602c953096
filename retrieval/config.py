"""The schema of an experiment: the only place where defaults live.

A file in `configs/` returns a `Config` from `get_config()`. Fields are plain strings, numbers, booleans,
tuples and dictionaries, so that a flag can override each of them and `config.json` holds all of them.
An empty string, tuple or 0 means "none" where the comment says so.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import typing
from typing import Any


@dataclasses.dataclass
class Columns:
    """Names of the columns in the user's files."""

    query_id: str = "user_id"
    candidate_id: str = "item_id"
    rating: str = ""  # none: every event counts the same
    timestamp: str = ""  # none: no split by time
    title: str = ""  # of the candidate table; none: ids stand for titles


@dataclasses.dataclass
class Split:
    """How one set of interactions is cut into train, validation and test."""

    strategy: str = "random"  # "random", "temporal" or "leave_last_out"
    test_fraction: float = 0.2
    validation_fraction: float = 0.2  # of what the test part leaves; 0: no validation part
    seed: int = 42


@dataclasses.dataclass
class Data:
    """Where interactions come from: a published data set, one file to split, or ready-made parts."""

    dataset: str = ""  # "movielens-100k" ... "movielens-latest-small" or "synthetic"; none: the files below
    path: str = ""  # local folder or archive of `dataset`; none: fetched and cached
    cache: str = "~/.cache/retrieval"
    interactions: str = ""  # one file (.csv, .tsv, .parquet), cut by `split`
    train: str = ""  # or ready-made parts
    validation: str = ""
    test: str = ""
    candidates: str = ""  # table of all candidates; none: every candidate id seen
    queries: str = ""  # table of query attributes
    columns: Columns = dataclasses.field(default_factory=Columns)
    drop_duplicates: bool = True  # keep the first event of a (query, candidate) pair only
    split: Split = dataclasses.field(default_factory=Split)
