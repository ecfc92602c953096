"""Embeddings with ids and attributes as Parquet, as vector databases import them."""

from __future__ import annotations

import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Float32

from retrieval.common.storage import write_chunks
from retrieval.data.columns import Column, is_present, values_of
from retrieval.data.ids import Ids
from retrieval.data.interactions import Table

ID, EMBEDDING = "id", "embedding"
ROWS_A_GROUP = 1 << 16


def write_vectors(
    path: pathlib.Path, ids: Ids, embeddings: Float32[np.ndarray, "n D"], attributes: Table | None = None
) -> None:
    """Writes a Parquet file of entities, atomically, in the order of the ids; O(n D) time.

    Columns are `id`, int64 or text; `embedding`, a list of D float32 of fixed size; and the attributes under their own
    names and with their types, null where an integer or boolean is missing or the table lacks an id. An attribute that
    is named as one of the two gets "attribute_" before it. Pages have checksums.

    Args:
      path: the file; its folder exists.
      ids: raw ids [n].
      embeddings: of these entities [n, D].
      attributes: a table of these entities and perhaps others; None: there are none.

    Raises:
      ValueError: there are not as many embeddings as ids.
    """
    if len(embeddings) != len(ids):
        raise ValueError(f"{len(ids)} embeddings needed, got shape {embeddings.shape}")
    columns = {ID: pa.array(ids), EMBEDDING: _vectors(embeddings)}
    found = np.full(len(ids), -1) if attributes is None else attributes.positions(ids)
    places = pa.array(found, pa.int64(), mask=found < 0)
    for name, column in ({} if attributes is None else attributes.columns).items():
        values = _attribute(column) if column.ndim == 1 else _vectors(column)
        columns[f"attribute_{name}" if name in columns else name] = values.take(places)
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(pa.table(columns), sink, row_group_size=ROWS_A_GROUP, write_page_checksum=True)
    write_chunks(path, [memoryview(sink.getvalue())])


def _attribute(column: Column) -> pa.Array:
    if column.dtype.kind == "O":
        return pa.array(column.tolist(), pa.list_(pa.string()))
    return pa.array(np.ascontiguousarray(values_of(column)), mask=~is_present(column) if column.dtype.names else None)


def _vectors(array: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(array).ravel()), array.shape[1])
