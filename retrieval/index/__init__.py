"""Searches embeddings by inner product, exactly or in a graph; only this room imports search engines."""

from retrieval.index.certificate import Certificate, CurvePoint
from retrieval.index.checks import Exclusions
from retrieval.index.exact.exact_index import ExactIndex
from retrieval.index.files import RECORD_FILE, digests
from retrieval.index.filter_hints import tell_unmatched
from retrieval.index.filters import MOST_KEPT, Filter, Filters
from retrieval.index.hnsw.hnsw_index import HnswIndex, HnswSettings
from retrieval.index.interface import Answers, IdIndex, Searcher
from retrieval.index.live.changes import check_vectors
from retrieval.index.live.live_index import LiveIndex
from retrieval.index.registry import load
from retrieval.index.subset import Subset
from retrieval.index.tuning.recall import recall
from retrieval.index.tuning.search import tune

__all__ = [
    "Answers",
    "Certificate",
    "ExactIndex",
    "Exclusions",
    "Filter",
    "Filters",
    "HnswIndex",
    "IdIndex",
    "LiveIndex",
    "CurvePoint",
    "RECORD_FILE",
    "Searcher",
    "HnswSettings",
    "MOST_KEPT",
    "Subset",
    "check_vectors",
    "digests",
    "load",
    "recall",
    "tell_unmatched",
    "tune",
]
