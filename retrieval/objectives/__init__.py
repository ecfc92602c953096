"""Training objectives of a two-tower model: what `train.fit` minimises."""

from retrieval.objectives.base import Objective, embeddings, lookups
from retrieval.objectives.corpus import FullSoftmax, ImplicitSquared, query_weights
from retrieval.objectives.in_batch import InBatchSoftmax
from retrieval.objectives.multi_task import HeadLoss, MultiTask, scale_of
from retrieval.objectives.pairwise import BPR, CosineContrastive

__all__ = [
    "BPR",
    "CosineContrastive",
    "FullSoftmax",
    "HeadLoss",
    "ImplicitSquared",
    "InBatchSoftmax",
    "MultiTask",
    "Objective",
    "embeddings",
    "lookups",
    "query_weights",
    "scale_of",
]
