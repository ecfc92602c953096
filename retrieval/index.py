"""Approximate maximum-inner-product search over candidate embeddings, and how much of the truth it finds.

The index is hnswlib's graph over the raw inner product, with promises that hnswlib does not make: a query
gets k candidates, or all that are left, whatever the graph looks like and whatever is excluded; scores are
the inner products; an answer depends neither on the other queries of the batch nor on the number of
threads. Where the graph cannot keep them, exact search does.
"""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hnswlib
import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, Shaped
from numpy.typing import ArrayLike

from retrieval.lists import Lists
from retrieval.storage import sha256

FORMAT_VERSION = 1
GRAPH_FILE = "index.hnsw"
RECORD_FILE = "index.json"
_SPACE = "ip"
_BLOCK = 1 << 20  # numbers gathered at a time
_LIMITS = {
    "M": (2, 10_000),  # hnswlib crashes on 0, cannot allocate with 1, and cuts what is above
    "ef_construction": (1, 2**31 - 1),
    "ef": (1, 2**31 - 1),
    "seed": (0, 2**32 - 1),
}

Rows = Int64[np.ndarray, " _"]
Exclusions = Lists | Sequence[ArrayLike]  # one list of rows per query


@dataclasses.dataclass(frozen=True)
class Settings:
    """How a graph is built and searched, see `HnswIndex.build`; raises ValueError out of range."""

    M: int
    ef_construction: int
    ef: int
    seed: int

    def __post_init__(self):
        for name, (low, high) in _LIMITS.items():
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= high:
                raise ValueError(f"{name} must be an integer in [{low}, {high}], got {value!r}")


@dataclasses.dataclass(frozen=True, eq=False)
class HnswIndex:
    """An index over fixed candidates; `build` or `load` makes one. Threads may search it at the same time.

    >>> index = HnswIndex.build([[1, 0], [0, 2], [3, 3]], M=16, ef_construction=100, ef=50, seed=0)
    >>> scores, rows = index.search([[1, 1]], k=2, excluded=[[1]])
    >>> scores.tolist(), rows.tolist()
    ([[6.0, 1.0]], [[2, 0]])

    Attributes:
      embeddings: float32 [n, d], read-only; the graph holds a second copy.
      settings: what it was built with and is searched with.
      figures: measurements saved with it, e.g. `recall_at_10`.
      graph: hnswlib's index; its labels are rows.
    """

    embeddings: Float32[np.ndarray, "n d"]
    settings: Settings
    figures: Mapping[str, float]
    graph: hnswlib.Index

    @classmethod
    def build(cls, embeddings: ArrayLike, *, M: int, ef_construction: int, ef: int, seed: int) -> HnswIndex:
        """Builds the index, the same bytes each time: one thread adds the rows in order.

        Takes about O(n ef_construction M d) time and O(n (d + M)) memory. Vectors are not normalised, and
        a zero vector is legal: it scores 0.

        Args:
          embeddings: [n, d], converted to float32 and copied.
          M: neighbours of a node, twice that in the lowest layer.
          ef_construction: candidates considered for them; hnswlib raises it to at least M.
          ef: candidates a search considers; exact from n on.
          seed: of the draw of layers.

        Raises:
          ValueError: the matrix is empty or not two-dimensional, a row is not finite or its squared norm
            exceeds float32, or a setting is out of range.
        """
        settings = Settings(M=M, ef_construction=ef_construction, ef=ef, seed=seed)
        vectors = _as_vectors(embeddings, "embeddings").copy()
        if vectors.size == 0:
            raise ValueError(f"embeddings must have a row and a column at least, got shape {vectors.shape}")
        graph = hnswlib.Index(space=_SPACE, dim=vectors.shape[1])
        graph.init_index(len(vectors), M=M, ef_construction=ef_construction, random_seed=seed)
        graph.add_items(vectors, np.arange(len(vectors)), num_threads=1)
        vectors.flags.writeable = False
        return cls(vectors, settings, {}, graph)

    def __len__(self) -> int:
        return len(self.embeddings)

    def with_ef(self, ef: int) -> HnswIndex:
        """Returns an index over the same graph that considers `ef` candidates; exact from `len(self)` on."""
        return dataclasses.replace(self, settings=dataclasses.replace(self.settings, ef=ef), figures={})

    def search(
        self, queries: ArrayLike, k: int, excluded: Exclusions | None = None
    ) -> tuple[Float32[np.ndarray, "q k"], Int32[np.ndarray, "q k"]]:
        """Finds the k candidates with about the largest inner products.

        The graph yields max(k, ef) candidates and as many more as are excluded, so that exclusions do not
        narrow the search. Exact search answers where that is the whole corpus, or more than the graph
        reaches: O(n d) a query.

        Args:
          queries: [q, d], converted to float32.
          k: at least 1; may exceed n.
          excluded: the rows that each query must not get, any number in any order.

        Returns:
          Scores and rows, best first, the lower row first where scores tie. Where no candidate is left the
          row is -1 and the score -inf.

        Raises:
          ValueError: `queries`, `k` or `excluded` do not fit the description.
        """
        vectors = _as_vectors(queries, "queries", self.embeddings.shape[1])
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        banned = _as_exclusions(excluded, len(vectors), len(self))
        scores = np.full((len(vectors), k), -np.inf, np.float32)
        rows = np.full((len(vectors), k), -1, np.int32)
        # Rounding the surplus up to 2**i - 1 leaves few widths, each still a function of its query alone.
        surplus = np.array([(1 << len(own).bit_length()) - 1 for own in banned], np.int64)
        widths = max(k, self.settings.ef) + surplus
        for width in np.unique(widths[widths < len(self)]):
            members = np.flatnonzero(widths == width)
            found = self._traverse(vectors[members], int(width))
            widths[members[found[:, 0] < 0]] = len(self)
            found[_is_banned(found, [banned[query] for query in members], len(self))] = -1
            found_scores = _score(self.embeddings, vectors[members], found)
            order = np.lexsort((found, -found_scores))[:, :k]
            scores[members] = np.take_along_axis(found_scores, order, axis=1)
            rows[members] = np.take_along_axis(found, order, axis=1)
        for query in np.flatnonzero(widths >= len(self)):
            best_scores, best = _exact_top(self.embeddings, vectors[query], k, banned[query])
            scores[query, : len(best)], rows[query, : len(best)] = best_scores, best
        return scores, rows

    def _traverse(self, queries: Float32[np.ndarray, "q d"], width: int) -> Int64[np.ndarray, "q {width}"]:
        """Returns the rows the graph finds, all -1 for a query that reaches fewer than `width`.

        hnswlib considers the larger of its ef and the number asked for. Asking for `width` leaves its ef
        alone, which concurrent searches would share and a file does not keep. hnswlib 0.8 never frees the
        answer of a call that raises, 12 bytes a candidate: build with a larger M where that is common.
        """
        try:
            return self.graph.knn_query(queries, k=width)[0].astype(np.int64)
        except RuntimeError:  # speaks for the whole batch
            if len(queries) == 1:
                return np.full((1, width), -1, np.int64)
            return np.concatenate([self._traverse(query[None], width) for query in queries])

    def save(self, folder: str | os.PathLike[str], figures: Mapping[str, float] | None = None) -> None:
        """Writes `index.hnsw` and `index.json` into `folder`, with `figures` (None: the index's own).

        Each file is replaced as a whole; should the second replacement fail, `load` refuses the pair.

        Raises:
          ValueError: a figure is not finite.
          OSError: the folder cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            graph, record = Path(name, GRAPH_FILE), Path(name, RECORD_FILE)
            self.graph.save_index(str(graph))
            size, expected = graph.stat().st_size, self.graph.index_file_size()
            if size != expected:  # hnswlib does not report failed writes
                raise OSError(f"{folder} took {size} of the {expected} bytes of {GRAPH_FILE}; is the disk full?")
            fields = {
                "format_version": FORMAT_VERSION,
                "space": _SPACE,
                "count": len(self),
                "dimension": self.embeddings.shape[1],
                "settings": dataclasses.asdict(self.settings),
                "figures": {k: float(v) for k, v in (self.figures if figures is None else figures).items()},
                "sha256": sha256(graph),
            }
            record.write_text(json.dumps(fields, indent=2, allow_nan=False) + "\n", encoding="utf-8")
            os.replace(graph, folder / GRAPH_FILE)
            os.replace(record, folder / RECORD_FILE)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> HnswIndex:
        """Reads what `save` wrote, once it is verified: hnswlib may crash on a damaged file.

        The embeddings come out of the graph, bit for bit. The hash detects damage, not forgery.

        Raises:
          ValueError: a file is missing or damaged, or has another format version.
        """
        record = _verified_record(Path(folder))
        graph = hnswlib.Index(space=_SPACE, dim=record["dimension"])
        graph.load_index(str(Path(folder, GRAPH_FILE)))
        embeddings = np.empty((record["count"], record["dimension"]), np.float32)
        step = max(1, _BLOCK // record["dimension"])  # get_items makes every number a Python float
        for start in range(0, len(embeddings), step):
            rows = np.arange(start, min(start + step, len(embeddings)))
            embeddings[rows] = graph.get_items(rows)
        embeddings.flags.writeable = False
        return cls(embeddings, Settings(**record["settings"]), record["figures"], graph)


def recall(index: HnswIndex, queries: ArrayLike, exact_rows: ArrayLike, excluded: Exclusions | None = None) -> float:
    """Returns the share of the exact top k that `index` finds, a mean over the queries that have one.

    A candidate counts if it scores at least as much as the worst of `exact_rows`: where several tie for
    the k-th place, any of them is right.

    >>> index = HnswIndex.build([[4], [3], [3], [1]], M=16, ef_construction=100, ef=50, seed=0)
    >>> recall(index, [[1]], [[0, 2]])  # finds 0 and 1, and 1 scores like 2
    1.0

    Args:
      index: the index to measure.
      queries: [q, d].
      exact_rows: int [q, k], e.g. `index.with_ef(len(index)).search(queries, k)[1]`; -1 is no row.
      excluded: what the exact search excluded, as in `HnswIndex.search`.

    Raises:
      ValueError: `exact_rows` do not fit the index or the queries, or none is a row.
    """
    vectors = _as_vectors(queries, "queries", index.embeddings.shape[1])
    truth = np.asarray(exact_rows)
    if truth.ndim != 2 or len(truth) != len(vectors):
        raise ValueError(f"exact_rows must have shape [{len(vectors)}, k], got {truth.shape}")
    if not _as_rows(truth[truth != -1], "exact_rows", len(index)).size:
        raise ValueError(f"exact_rows of shape {truth.shape} hold no row: there is nothing to find")
    scores, _ = index.search(vectors, truth.shape[1], excluded)
    exact_scores = _score(index.embeddings, vectors, truth)
    worst = np.where(truth >= 0, exact_scores, np.inf).min(axis=1, keepdims=True)
    wanted = (truth >= 0).sum(axis=1)
    found = np.minimum((scores >= worst).sum(axis=1), wanted)
    return float(np.mean(found[wanted > 0] / wanted[wanted > 0]))


def _as_vectors(values: ArrayLike, name: str, dimension: int | None = None) -> Float32[np.ndarray, "n d"]:
    """Returns a float32 matrix; by Cauchy-Schwarz, inner products of what passes are finite."""
    with np.errstate(over="ignore", invalid="ignore"):
        vectors = np.ascontiguousarray(values, dtype=np.float32)
        if vectors.ndim != 2 or dimension not in (None, vectors.shape[1]):
            columns = "d" if dimension is None else dimension
            raise ValueError(f"{name} must be vectors in rows, shape [n, {columns}], got shape {vectors.shape}")
        squared = np.vecdot(vectors, vectors)
    bad = np.flatnonzero(~np.isfinite(squared))
    if bad.size:
        raise ValueError(
            f"{name} must be finite with squared norms in float32, got {squared[bad[0]]} in row {bad[0]} "
            f"({bad.size} such rows); did the training diverge?"
        )
    return vectors


def _as_rows(values: ArrayLike, name: str, count: int) -> Rows:
    """Returns one-dimensional rows in [0, count)."""
    rows = np.asarray(values)
    if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be integers in one dimension, got {rows.dtype} of shape {rows.shape}")
    bad = rows[(rows < 0) | (rows >= count)]
    if bad.size:
        raise ValueError(f"{name} must be rows of the index, in [0, {count}), got {bad[0]}; leave others out")
    return rows.astype(np.int64)


def _as_exclusions(excluded: Exclusions | None, num_queries: int, count: int) -> list[Rows]:
    """Returns the excluded rows of each query."""
    if excluded is None:
        return [np.empty(0, np.int64)] * num_queries
    if len(excluded) != num_queries:
        raise ValueError(f"excluded must have an entry for each of {num_queries} queries, got {len(excluded)}")
    return [_as_rows(rows, f"excluded[{query}]", count) for query, rows in enumerate(excluded)]


def _is_banned(found: Int64[np.ndarray, "q w"], banned: list[Rows], count: int) -> Bool[np.ndarray, "q w"]:
    first = np.arange(len(found)) * count  # makes query and row one number
    pairs = np.concatenate([start + own for start, own in zip(first, banned, strict=True)])
    return np.isin(first[:, None] + found, pairs)


def _score(
    embeddings: Float32[np.ndarray, "n d"],
    queries: Float32[np.ndarray, "q d"],
    rows: Shaped[np.ndarray, "q w"],
) -> Float32[np.ndarray, "q w"]:
    """Returns the inner product of each query with each of its rows, -inf for row -1.

    `vecdot` takes every product by itself: no rounding, hence no tie, depends on the rest of a batch.
    """
    scores = np.empty(rows.shape, np.float32)
    step = max(1, _BLOCK // (rows.shape[1] * embeddings.shape[1]))
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        scores[block] = np.vecdot(queries[block, None], embeddings[rows[block]])
    return np.where(rows >= 0, scores, -np.inf)


def _exact_top(
    embeddings: Float32[np.ndarray, "n d"], query: Float32[np.ndarray, " d"], k: int, banned: Rows
) -> tuple[Float32[np.ndarray, " w"], Rows]:
    """Returns scores and rows of the best k that are not banned, or of all there are."""
    scores = np.vecdot(embeddings, query)
    scores[banned] = -np.inf
    worst = np.partition(scores, -k)[-k] if k < len(scores) else -np.inf
    rows = np.flatnonzero((scores >= worst) & (scores > -np.inf))
    rows = rows[np.argsort(-scores[rows], kind="stable")[:k]]
    return scores[rows], rows


def _verified_record(folder: Path) -> dict[str, Any]:
    """Returns the content of `index.json` if that and the graph file are sound."""
    path, graph = folder / RECORD_FILE, folder / GRAPH_FILE
    for file in (path, graph):
        if not file.is_file():
            raise ValueError(f"{file} is missing; an index is {RECORD_FILE} and {GRAPH_FILE} in one folder")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format_version"] != FORMAT_VERSION:
            raise ValueError(f"format_version {record['format_version']!r}, not {FORMAT_VERSION}")
        Settings(**record["settings"])
        dict(record["figures"])
        expected = [record[key] for key in ("space", "sha256", "count", "dimension")]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} must be what this version saves, got {error!r}; save it again") from error
    with graph.open("rb") as file:
        header = struct.unpack("<6Q", file.read(48).ljust(48, b"\0"))
    _, _, count, _, label_offset, vector_offset = header  # of HierarchicalNSW::saveIndex in hnswlib
    actual = [_SPACE, sha256(graph), count, (label_offset - vector_offset) // 4]
    if actual != expected:
        raise ValueError(
            f"{graph} must match {path.name} in space, sha256, count and dimension, got {actual} where "
            f"{expected} was saved; copy both files again"
        )
    return record
