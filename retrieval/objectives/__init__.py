"""Training objectives of a two-tower model: what `train.fit` minimises."""

from retrieval.objectives.corpus import FullSoftmax, ImplicitSquared, query_weights
from retrieval.objectives.in_batch import InBatchSoftmax
from retrieval.objectives.objective import Objective, embeddings, lookups
from retrieval.objectives.pairwise import BPR, CosineContrastive

__all__ = [
    "BPR",
    "CosineContrastive",
    "FullSoftmax",
    "ImplicitSquared",
    "InBatchSoftmax",
    "Objective",
    "embeddings",
    "lookups",
    "query_weights",
]
