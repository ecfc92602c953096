"""A loss bound to a model and a batch: what a training step minimises and logs."""

from retrieval.objectives.base import Objective, TrainingRows, embeddings, lookups
from retrieval.objectives.corpus import FullSoftmax, ImplicitSquared, query_weights
from retrieval.objectives.in_batch import InBatchSoftmax
from retrieval.objectives.multi_task import HeadLoss, MultiTask, scale_of
from retrieval.objectives.pairwise import BPR, CosineContrastive
from retrieval.objectives.registry import OBJECTIVES

__all__ = [
    "BPR",
    "OBJECTIVES",
    "CosineContrastive",
    "FullSoftmax",
    "HeadLoss",
    "ImplicitSquared",
    "InBatchSoftmax",
    "MultiTask",
    "Objective",
    "TrainingRows",
    "embeddings",
    "lookups",
    "query_weights",
    "scale_of",
]
