"""Two-tower retrieval in JAX: train on implicit feedback, evaluate on the full corpus, export, index and serve.

A name is imported when it is first used: `load`, and all that a bundle needs, without what trains models.
"""

from __future__ import annotations

import importlib
import sys
import types
from typing import Any

_PLACES = {  # public name -> its module, or module:attribute
    "BPR": "retrieval.objectives:BPR",
    "Config": "retrieval.config.schema:Config",
    "CosineContrastive": "retrieval.objectives:CosineContrastive",
    "Dataset": "retrieval.data.dataset:Dataset",
    "Encoding": "retrieval.data.encoding:Encoding",
    "Evaluation": "retrieval.evaluation.protocol:Evaluation",
    "ExactIndex": "retrieval.index:ExactIndex",
    "Examples": "retrieval.data.encoding:Examples",
    "FeatureInput": "retrieval.models.feature_tower:FeatureInput",
    "FeatureTower": "retrieval.models.feature_tower:FeatureTower",
    "Filter": "retrieval.index:Filter",
    "FullSoftmax": "retrieval.objectives:FullSoftmax",
    "Head": "retrieval.models.heads:Head",
    "HeadLoss": "retrieval.objectives:HeadLoss",
    "HnswIndex": "retrieval.index:HnswIndex",
    "IdTower": "retrieval.models.id_tower:IdTower",
    "ImplicitSquared": "retrieval.objectives:ImplicitSquared",
    "InBatchSoftmax": "retrieval.objectives:InBatchSoftmax",
    "Interactions": "retrieval.data.interactions:Interactions",
    "Lists": "retrieval.common.lists:Lists",
    "LiveIndex": "retrieval.index:LiveIndex",
    "MultiTask": "retrieval.objectives:MultiTask",
    "Negatives": "retrieval.batching.negatives:Negatives",
    "Parts": "retrieval.data.splits:Parts",
    "PerQuery": "retrieval.evaluation.per_query:PerQuery",
    "Recipe": "retrieval.pipeline.recipe:Recipe",
    "Recommendations": "retrieval.serving.answers:Recommendations",
    "Recommender": "retrieval.serving.recommender:Recommender",
    "Table": "retrieval.data.interactions:Table",
    "Targets": "retrieval.data.encoding:Targets",
    "TouchedRows": "retrieval.training.optimizers.by_name:TouchedRows",
    "TrainState": "retrieval.training.step:TrainState",
    "TwoTower": "retrieval.models.two_tower:TwoTower",
    "Vocabulary": "retrieval.data.vocabulary:Vocabulary",
    "baselines": "retrieval.baselines",
    "batches": "retrieval.batching.batches:batches",
    "bind": "retrieval.models.two_tower:bind",
    "compare": "retrieval.evaluation.comparison:compare",
    "create_state": "retrieval.training.step:create_state",
    "evaluate": "retrieval.evaluation.measure:evaluate",
    "features": "retrieval.features",
    "fit": "retrieval.training.step:fit",
    "fit_many": "retrieval.training.ensemble:fit_many",
    "folded_softmax": "retrieval.losses:folded_softmax",
    "leakage": "retrieval.data.leakage",
    "list_metrics": "retrieval.evaluation.list_metrics",
    "load": "retrieval.serving.bundle:load",
    "load_data": "retrieval.data.dataset:load",
    "losses": "retrieval.losses",
    "metrics": "retrieval.evaluation.ranking_metrics",
    "most_popular": "retrieval.baselines:most_popular",
    "prepare": "retrieval.pipeline.recipe:prepare",
    "rank": "retrieval.ranking.ranks:rank",
    "read_per_query": "retrieval.evaluation.per_query:read_per_query",
    "sampled_softmax": "retrieval.losses:sampled_softmax",
    "split": "retrieval.data.splits:split",
    "top_k": "retrieval.ranking.topk:top_k",
    "train_step": "retrieval.training.step:train_step",
    "tune_index": "retrieval.index:tune",
    "write_per_query": "retrieval.evaluation.per_query:write_per_query",
}
__all__ = sorted(_PLACES)


class _Package(types.ModuleType):
    """The package: finds its public names."""

    def __getattr__(self, name: str) -> Any:
        if name not in _PLACES:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module, _, attribute = _PLACES[name].partition(":")
        found = importlib.import_module(module)
        return getattr(found, attribute) if attribute else found

    def __setattr__(self, name: str, value: Any) -> None:
        # importing the module `retrieval.evaluate` does not hide the function of that name
        if not (isinstance(value, types.ModuleType) and ":" in _PLACES.get(name, "")):
            super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *__all__})


sys.modules[__name__].__class__ = _Package
