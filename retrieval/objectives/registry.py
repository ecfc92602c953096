"""Registry of the losses by their names in a config. A new loss is a function, a class and an entry here."""

from __future__ import annotations

from retrieval.objectives.base import Objective
from retrieval.objectives.corpus import FullSoftmax, ImplicitSquared
from retrieval.objectives.in_batch import InBatchSoftmax
from retrieval.objectives.pairwise import BPR, CosineContrastive

OBJECTIVES: dict[str, type[Objective]] = {
    objective.name: objective for objective in (InBatchSoftmax, FullSoftmax, ImplicitSquared, CosineContrastive, BPR)
}
