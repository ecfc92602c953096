"""Which files a bundle has, and the form of those that are no arrays."""

from __future__ import annotations

import json

import numpy as np

from retrieval.data.interactions import Table

QUERY_TOWER, CANDIDATE_TOWER = "query_tower.stablehlo", "candidate_tower.stablehlo"
QUERIES, CANDIDATES, CORPUS = "query_vocabulary.json", "candidate_vocabulary.json", "corpus.json"
CONTEXT, QUERY_FEATURES, CANDIDATE_FEATURES = "query_context.json", "query_features.json", "candidate_features.json"
EMBEDDINGS, SEEN_OFFSETS, SEEN_ROWS = "candidate_embeddings.npy", "seen_offsets.npy", "seen_rows.npy"
HISTORY_OFFSETS, HISTORY_ROWS = "history_offsets.npy", "history_rows.npy"
HISTORY_RATINGS, HISTORY_TIMES = "history_ratings.npy", "history_times.npy"
INDEX = "index"  # a folder
GOLDEN = "golden.json"
EXPORTS = "exports"  # a folder of what is made of the bundle for others: no part of it, but moved with it


def feature_file(side: str, part: str) -> str:
    """Returns the name of the file of one array of the encoded features of a tower, "query" or "candidate"."""
    return f"{side}_feature_{part}.npy"


def parameter_file(name: str) -> str:
    """Returns the name of the file of an array that a tower reads."""
    return f"{name}.npy"


def corpus_to_json(corpus: Table) -> str:
    """Returns the ids and the attributes of the candidates as JSON text."""
    columns = {
        name: {"dtype": column.dtype.kind if column.dtype.kind == "U" else column.dtype.str, "values": column.tolist()}
        for name, column in corpus.columns.items()
    }
    return json.dumps({"ids": corpus.ids.tolist(), "columns": columns}, ensure_ascii=False)


def corpus_from_json(text: str) -> Table:
    """Reads what `corpus_to_json` wrote.

    Raises:
      ValueError: the text is no corpus.
    """
    try:
        content = json.loads(text)
        columns = {
            name: np.array(column["values"], np.dtype(column["dtype"])) for name, column in content["columns"].items()
        }
        if any(column.dtype.kind not in "Uiufb" for column in columns.values()):
            raise ValueError("a column is neither text nor numbers")
        return Table(np.asarray(content["ids"]), columns)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"not a corpus: {error!r}"[:200]) from None
