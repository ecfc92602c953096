"""Two-tower retrieval in JAX: train on implicit feedback, evaluate on the full corpus, export, index and serve.

A public name is imported on first use, so that `retrieval.load` and all that serving needs never import what trains.
"""

import importlib

__version__ = "0.2.0"  # setup.py reads it

_PLACES = {  # public name -> "module:attribute", or a module
    "baselines": "retrieval.baselines",
    "batches": "retrieval.batching.assembly:batches",
    "bind": "retrieval.models.binding:bind",
    "BPR": "retrieval.objectives:BPR",
    "compare": "retrieval.evaluation.comparison:compare",
    "Config": "retrieval.config.schema:Config",
    "CosineContrastive": "retrieval.objectives:CosineContrastive",
    "create_state": "retrieval.training.step:create_state",
    "Dataset": "retrieval.data.dataset:Dataset",
    "Encoding": "retrieval.data.encoding:Encoding",
    "evaluate": "retrieval.evaluation.measure:evaluate",
    "Evaluation": "retrieval.evaluation.protocol:Evaluation",
    "ExactIndex": "retrieval.index:ExactIndex",
    "Examples": "retrieval.data.encoding:Examples",
    "FeatureInput": "retrieval.models.feature_inputs:FeatureInput",
    "features": "retrieval.features",
    "FeatureTower": "retrieval.models.feature_tower:FeatureTower",
    "Filter": "retrieval.index:Filter",
    "fit": "retrieval.training.epochs:fit",
    "fit_many": "retrieval.training.ensemble:fit_many",
    "folded_softmax": "retrieval.losses:folded_softmax",
    "FullSoftmax": "retrieval.objectives:FullSoftmax",
    "Head": "retrieval.models.heads:Head",
    "HeadLoss": "retrieval.objectives:HeadLoss",
    "HnswIndex": "retrieval.index:HnswIndex",
    "IdTower": "retrieval.models.id_tower:IdTower",
    "ImplicitSquared": "retrieval.objectives:ImplicitSquared",
    "InBatchSoftmax": "retrieval.objectives:InBatchSoftmax",
    "Interactions": "retrieval.data.interactions:Interactions",
    "leakage": "retrieval.data.leakage",
    "list_metrics": "retrieval.evaluation.list_metrics",
    "Lists": "retrieval.common.lists:Lists",
    "LiveIndex": "retrieval.index:LiveIndex",
    "load": "retrieval.serving.bundle:load",
    "load_data": "retrieval.data.dataset:load",
    "losses": "retrieval.losses",
    "metrics": "retrieval.evaluation.ranking_metrics",
    "most_popular": "retrieval.baselines:most_popular",
    "MultiTask": "retrieval.objectives:MultiTask",
    "Negatives": "retrieval.batching.negatives:Negatives",
    "Parts": "retrieval.data.splits:Parts",
    "PerQuery": "retrieval.evaluation.per_query:PerQuery",
    "prepare": "retrieval.pipeline.recipe:prepare",
    "rank": "retrieval.ranking.ranks:rank",
    "read_per_query": "retrieval.evaluation.per_query:read_per_query",
    "Recipe": "retrieval.pipeline.recipe:Recipe",
    "Recommendations": "retrieval.serving.answers:Recommendations",
    "Recommender": "retrieval.serving.recommender:Recommender",
    "sampled_softmax": "retrieval.losses:sampled_softmax",
    "split": "retrieval.data.splits:split",
    "Table": "retrieval.data.interactions:Table",
    "Targets": "retrieval.data.encoding:Targets",
    "top_k": "retrieval.ranking.topk:top_k",
    "TouchedRows": "retrieval.training.optimizers.by_name:TouchedRows",
    "train_step": "retrieval.training.step:train_step",
    "TrainState": "retrieval.training.step:TrainState",
    "tune_index": "retrieval.index:tune",
    "TwoTower": "retrieval.models.two_tower:TwoTower",
    "Vocabulary": "retrieval.data.vocabulary:Vocabulary",
    "write_per_query": "retrieval.evaluation.per_query:write_per_query",
}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> object:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _PLACES[name].partition(":")
    value = importlib.import_module(module)
    return getattr(value, attribute) if attribute else value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
