"""The losses by the name that a config gives them: a new loss is one function, one class and one entry here."""

from __future__ import annotations

from retrieval.objectives.base import Objective
from retrieval.objectives.corpus import FullSoftmax, ImplicitSquared
from retrieval.objectives.in_batch import InBatchSoftmax
from retrieval.objectives.pairwise import BPR, CosineContrastive

OBJECTIVES: dict[str, type[Objective]] = {
    objective.name: objective for objective in (InBatchSoftmax, FullSoftmax, ImplicitSquared, CosineContrastive, BPR)
}
