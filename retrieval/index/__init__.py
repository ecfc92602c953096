"""Search over candidate embeddings: exact or by a graph, certified, by ids, under filters, while it changes."""

from retrieval.index.arguments import Exclusions, Subset
from retrieval.index.certificate import Certificate, Point
from retrieval.index.changes import check_vectors
from retrieval.index.exact import ExactIndex
from retrieval.index.files import RECORD_FILE, digests
from retrieval.index.filters import Filter, Filters
from retrieval.index.hnsw import HnswIndex, Settings
from retrieval.index.interface import Answers, Index, Searcher
from retrieval.index.kinds import load
from retrieval.index.live import LiveIndex
from retrieval.index.truth import recall
from retrieval.index.tuning import tune

__all__ = [
    "Answers",
    "Certificate",
    "ExactIndex",
    "Exclusions",
    "Filter",
    "Filters",
    "HnswIndex",
    "Index",
    "LiveIndex",
    "Point",
    "RECORD_FILE",
    "Searcher",
    "Settings",
    "Subset",
    "check_vectors",
    "digests",
    "load",
    "recall",
    "tune",
]
