"""Search over candidate embeddings: exact or by a graph, certified, by ids, under filters, while it changes."""

from retrieval.index.arguments import Exclusions, Subset
from retrieval.index.certificate import recall
from retrieval.index.exact import ExactIndex
from retrieval.index.filters import Filter, Filters
from retrieval.index.hnsw import HnswIndex, Settings
from retrieval.index.interface import Searcher
from retrieval.index.kinds import load
from retrieval.index.live import LiveIndex, check_vectors
from retrieval.index.snapshot import Answers

__all__ = [
    "Answers",
    "ExactIndex",
    "Exclusions",
    "Filter",
    "Filters",
    "HnswIndex",
    "LiveIndex",
    "Searcher",
    "Settings",
    "Subset",
    "check_vectors",
    "load",
    "recall",
]
