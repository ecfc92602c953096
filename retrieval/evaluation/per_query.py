"""The metrics of each query, kept so that their means can be resampled, sliced and compared."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from jaxtyping import Float64

from retrieval.common.storage import write_chunks
from retrieval.data.ids import Ids, as_ids
from retrieval.evaluation.bootstrap import weighted_means
from retrieval.evaluation.intervals import mean_intervals

FORMAT = 1  # of the file; raise it when older programs would misread a new one
METADATA = b"retrieval.evaluation.per_query"
QUERY_ID = "query_id"
WEIGHT = "weight/"  # prefix of the columns of weights
Interval = tuple[float, float]  # lower and upper end


@dataclasses.dataclass(frozen=True)
class PerQuery:
    """The value of each metric for each query of one system.

    Attributes:
      query_ids: raw ids of the queries [Q], ascending.
      values: value of each query [Q] by metric, as "excluding_seen/ndcg_at_10"; NaN where it is not defined.
      weights: weight of each query [Q], by metric, where not 1: the number of interactions in their mean.
      test_set: SHA-256 of the targets, hexadecimal: only systems with the same one can be compared.

    Raises:
      ValueError: ids are not ascending, lengths differ, or weights are negative or of no metric.
    """

    query_ids: Ids
    values: Mapping[str, Float64[np.ndarray, "Q"]]
    weights: Mapping[str, Float64[np.ndarray, "Q"]]
    test_set: str

    def __repr__(self) -> str:
        return f"PerQuery({len(self.values)} metrics of {len(self.query_ids):,} queries, test set {self.test_set[:8]})"

    def __post_init__(self):
        if np.any(self.query_ids[1:] <= self.query_ids[:-1]):
            raise ValueError("query_ids must be ascending, each once; sort queries and values by id")
        if missing := sorted(set(self.weights) - set(self.values)):
            raise ValueError(f"weights of {missing[0]!r}, which has no values")
        for kind, columns in (("values", self.values), ("weights", self.weights)):
            for name, column in columns.items():
                if len(column) != len(self.query_ids):
                    raise ValueError(f"{len(column)} {kind} of {name!r} for {len(self.query_ids)} queries")

    def means(self) -> dict[str, float]:
        """Returns the weighted mean of each metric over the queries where it is defined; NaN where it is for none.

        >>> one = PerQuery(np.array([7, 9]), {"mrr_at_5": np.array([0.5, 0.25])}, {}, "")
        >>> one.means()
        {'mrr_at_5': 0.375}
        """
        means = weighted_means(*self.columns(list(self.values)))
        return dict(zip(self.values, means.tolist(), strict=True))

    def intervals(self, *, resamples: int = 2000, level: float = 0.95, seed: int = 0) -> dict[str, Interval]:
        """Returns an interval of each mean, see `registry.INTERVALS`; NaN where none holds."""
        names = list(self.values)
        low, high = mean_intervals(names, *self.columns(names), resamples=resamples, level=level, seed=seed)
        return {name: (float(low[i]), float(high[i])) for i, name in enumerate(self.values)}

    def take(self, query_ids: Ids) -> PerQuery:
        """Returns the metrics of some of the queries; ids of other queries are ignored."""
        chosen = np.isin(self.query_ids, query_ids)
        values = {name: column[chosen] for name, column in self.values.items()}
        weights = {name: column[chosen] for name, column in self.weights.items()}
        return dataclasses.replace(self, query_ids=self.query_ids[chosen], values=values, weights=weights)

    def columns(self, metrics: Sequence[str]) -> tuple[Float64[np.ndarray, "Q M"], Float64[np.ndarray, "Q M"] | None]:
        """Returns values and weights of some metrics as matrices; None for weights of 1."""
        values = _stacked([self.values[name] for name in metrics], len(self.query_ids))
        if not set(metrics) & set(self.weights):
            return values, None
        ones = np.ones(len(self.query_ids))
        return values, _stacked([self.weights.get(name, ones) for name in metrics], len(self.query_ids))


def write_per_query(path: pathlib.Path, per_query: PerQuery) -> None:
    """Writes the file that `per_query_bytes` describes, atomically."""
    write_chunks(path, [per_query_bytes(per_query)])


def per_query_bytes(per_query: PerQuery) -> memoryview:
    """Returns a Parquet file of one row a query, with a checksum of each page.

    Columns are `query_id`, one of each metric, and `weight/{metric}` where it has weights; NaN stays NaN. Any reader
    of Parquet reads it.
    """
    ids = per_query.query_ids
    columns = {QUERY_ID: pa.array(ids.tolist(), pa.string() if ids.dtype.kind == "U" else pa.int64())}
    columns |= {name: pa.array(values) for name, values in per_query.values.items()}
    columns |= {WEIGHT + name: pa.array(weights) for name, weights in per_query.weights.items()}
    header = json.dumps({"format": FORMAT, "test_set": per_query.test_set})
    table = pa.table(columns).replace_schema_metadata({METADATA: header})
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink, compression="zstd", write_page_checksum=True)
    return memoryview(sink.getvalue())


def read_per_query(path: pathlib.Path) -> PerQuery:
    """Reads a file of `write_per_query`.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is damaged, of another format, or not of this kind.
    """
    try:
        return per_query_from_bytes(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}; evaluate the run again") from error


def per_query_from_bytes(content: bytes) -> PerQuery:
    """Reads the content of a file of `write_per_query`.

    Raises:
      ValueError: the content is damaged, of another format, or not of this kind.
    """
    try:
        table = pa.parquet.read_table(pa.BufferReader(content), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"it is damaged or no Parquet file: {error}") from error
    header = (table.schema.metadata or {}).get(METADATA)
    if header is None:
        raise ValueError("it holds no values of an evaluation, which write_per_query writes")
    header = json.loads(header)
    if header["format"] != FORMAT:
        raise ValueError(f"it has format {header['format']}, known is {FORMAT}")
    names = [name for name in table.column_names if name != QUERY_ID]
    columns = {name: table[name].to_numpy() for name in names}
    return PerQuery(
        query_ids=_ids(table[QUERY_ID]),
        values={name: column for name, column in columns.items() if not name.startswith(WEIGHT)},
        weights={name.removeprefix(WEIGHT): column for name, column in columns.items() if name.startswith(WEIGHT)},
        test_set=header["test_set"],
    )


def _ids(column: pa.ChunkedArray) -> Ids:
    texts = pa.types.is_string(column.type)
    return as_ids(np.array(column.to_pylist(), np.str_) if texts else column.to_numpy(), QUERY_ID)


def _stacked(columns: Sequence[Float64[np.ndarray, "Q"]], num_queries: int) -> Float64[np.ndarray, "Q M"]:
    return np.stack(columns, axis=1) if columns else np.empty((num_queries, 0))
