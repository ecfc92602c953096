"""Which files a bundle has, and the form of those that are no arrays."""

from __future__ import annotations

import json

import numpy as np

from retrieval.data.column_values import as_column
from retrieval.data.columns import Column, as_lists, to_list, values_of, with_missing
from retrieval.data.interactions import Table

QUERY_TOWER, CANDIDATE_TOWER = "query_tower.stablehlo", "candidate_tower.stablehlo"
QUERIES, CANDIDATES, CORPUS = "query_vocabulary.json", "candidate_vocabulary.json", "corpus.json"
CONTEXT, QUERY_FEATURES, CANDIDATE_FEATURES = "query_context.json", "query_features.json", "candidate_features.json"
EMBEDDINGS, SEEN_OFFSETS, SEEN_ROWS = "candidate_embeddings.npy", "seen_offsets.npy", "seen_rows.npy"
HISTORY_OFFSETS, HISTORY_ROWS = "history_offsets.npy", "history_rows.npy"
HISTORY_RATINGS, HISTORY_TIMES = "history_ratings.npy", "history_times.npy"
INDEX = "index"  # a folder
GOLDEN = "golden.json"
LISTS = "lists"  # the type of a column of lists of text
ALLOWED = {"i": {int, type(None)}, "b": {bool, type(None)}, "u": {int}, "f": {float, int}}  # in columns of such types
SIGNATURE = "manifest.sig"  # over the manifest, where the bundle is signed
EXPORTS = "exports"  # a folder of what is made of the bundle for others: no part of it, but moved with it


def feature_file(side: str, part: str) -> str:
    """Returns the name of the file of one array of the encoded features of a tower, "query" or "candidate"."""
    return f"{side}_feature_{part}.npy"


def parameter_file(name: str) -> str:
    """Returns the name of the file of an array that a tower reads."""
    return f"{name}.npy"


def corpus_to_json(corpus: Table) -> str:
    """Returns the ids and the attributes of the candidates as JSON text."""
    columns = {name: {"dtype": _name_of(column), "values": to_list(column)} for name, column in corpus.columns.items()}
    return json.dumps({"ids": corpus.ids.tolist(), "columns": columns}, ensure_ascii=False)


def corpus_from_json(text: str) -> Table:
    """Reads what `corpus_to_json` wrote.

    Raises:
      ValueError: the text is no corpus.
    """
    try:
        content = json.loads(text)
        columns = {name: _column(column["dtype"], column["values"]) for name, column in content["columns"].items()}
        return Table(np.asarray(content["ids"]), columns)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a corpus: {error!r}"[:200]) from None


def _name_of(column: Column) -> str:
    """Returns the type of a column in the file; integers and booleans may have values that are null."""
    dtype = values_of(column).dtype
    return {"U": "U", "O": LISTS}.get(dtype.kind, dtype.str)


def _column(name: str, values: list) -> Column:
    """Reads a column of values of one type.

    Raises:
      ValueError: the values have another type.
    """
    if name == LISTS:
        if not all(isinstance(row, list) and all(isinstance(value, str) for value in row) for row in values):
            raise ValueError("a row of a column of lists is no list of text")
        return as_lists(values, len(values))
    if name == "U":
        if not all(isinstance(value, str) for value in values):
            raise ValueError("a value of a column of text is no text")
        return as_column(values, "a column")
    dtype = np.dtype(name)
    if dtype.kind not in "iufb":
        raise ValueError("a column is neither text nor numbers")
    if values and isinstance(values[0], list):  # vectors
        return np.array(values, dtype)
    if not {*map(type, values)} <= ALLOWED[dtype.kind]:
        raise ValueError(f"a value of a column of {name} has another type")
    if dtype.kind in "ib":
        present = np.array([value is not None for value in values])
        return with_missing(np.array([value or 0 for value in values], dtype), present)
    return np.array(values, dtype)
