"""Two-tower retrieval in JAX: train on implicit feedback, evaluate on the full corpus, export, index and serve."""

from retrieval import baselines, features, leakage, list_metrics, losses, metrics
from retrieval.baselines import most_popular
from retrieval.bundle import load
from retrieval.comparison import compare
from retrieval.config import Config
from retrieval.data.batches import batches
from retrieval.data.dataset import Dataset
from retrieval.data.dataset import load as load_data
from retrieval.data.encoding import Encoding, Examples, Targets
from retrieval.data.interactions import Interactions, Table
from retrieval.data.negatives import Negatives
from retrieval.data.splits import Parts, split
from retrieval.data.vocabulary import Vocabulary
from retrieval.evaluate import evaluate
from retrieval.evaluation import Evaluation
from retrieval.index import HnswIndex
from retrieval.lists import Lists
from retrieval.losses import folded_softmax, sampled_softmax
from retrieval.models.feature_tower import FeatureInput, FeatureTower
from retrieval.models.towers import IdTower
from retrieval.models.two_tower import TwoTower, bind
from retrieval.objectives import BPR, CosineContrastive, FullSoftmax, ImplicitSquared, InBatchSoftmax
from retrieval.optimizers import TouchedRows
from retrieval.per_query import PerQuery, read_per_query, write_per_query
from retrieval.ranks import rank
from retrieval.recipe import Recipe, prepare
from retrieval.recommend import Recommendations, Recommender
from retrieval.replicas import fit_many
from retrieval.topk import top_k
from retrieval.train import TrainState, create_state, fit, train_step

__all__ = [
    "BPR",
    "Config",
    "CosineContrastive",
    "Dataset",
    "Encoding",
    "Evaluation",
    "Examples",
    "FeatureInput",
    "FeatureTower",
    "FullSoftmax",
    "HnswIndex",
    "IdTower",
    "ImplicitSquared",
    "InBatchSoftmax",
    "Interactions",
    "Lists",
    "Negatives",
    "Parts",
    "PerQuery",
    "Recipe",
    "Recommendations",
    "Recommender",
    "Table",
    "Targets",
    "TouchedRows",
    "TrainState",
    "TwoTower",
    "Vocabulary",
    "baselines",
    "batches",
    "bind",
    "compare",
    "create_state",
    "evaluate",
    "features",
    "fit",
    "fit_many",
    "folded_softmax",
    "leakage",
    "list_metrics",
    "load",
    "load_data",
    "losses",
    "metrics",
    "most_popular",
    "prepare",
    "rank",
    "read_per_query",
    "sampled_softmax",
    "split",
    "top_k",
    "train_step",
    "write_per_query",
]
