"""The public names for editors and type checkers; `__init__.py` imports each on first use."""

# ruff: noqa: F401

__version__: str

from retrieval import baselines as baselines
from retrieval import features as features
from retrieval import losses as losses
from retrieval.baselines import most_popular as most_popular
from retrieval.batching.assembly import batches as batches
from retrieval.batching.negatives import Negatives as Negatives
from retrieval.common.lists import Lists as Lists
from retrieval.config.schema import Config as Config
from retrieval.data import leakage as leakage
from retrieval.data.dataset import Dataset as Dataset
from retrieval.data.dataset import load as load_data
from retrieval.data.encoding import Encoding as Encoding
from retrieval.data.encoding import Examples as Examples
from retrieval.data.encoding import Targets as Targets
from retrieval.data.interactions import Interactions as Interactions
from retrieval.data.interactions import Table as Table
from retrieval.data.splits import Parts as Parts
from retrieval.data.splits import split as split
from retrieval.data.vocabulary import Vocabulary as Vocabulary
from retrieval.evaluation import list_metrics as list_metrics
from retrieval.evaluation import ranking_metrics as metrics
from retrieval.evaluation.comparison import compare as compare
from retrieval.evaluation.measure import evaluate as evaluate
from retrieval.evaluation.per_query import PerQuery as PerQuery
from retrieval.evaluation.per_query import read_per_query as read_per_query
from retrieval.evaluation.per_query import write_per_query as write_per_query
from retrieval.evaluation.protocol import Evaluation as Evaluation
from retrieval.index import ExactIndex as ExactIndex
from retrieval.index import Filter as Filter
from retrieval.index import HnswIndex as HnswIndex
from retrieval.index import LiveIndex as LiveIndex
from retrieval.index import tune as tune_index
from retrieval.losses import folded_softmax as folded_softmax
from retrieval.losses import sampled_softmax as sampled_softmax
from retrieval.models.binding import bind as bind
from retrieval.models.feature_inputs import FeatureInput as FeatureInput
from retrieval.models.feature_tower import FeatureTower as FeatureTower
from retrieval.models.heads import Head as Head
from retrieval.models.id_tower import IdTower as IdTower
from retrieval.models.two_tower import TwoTower as TwoTower
from retrieval.objectives import BPR as BPR
from retrieval.objectives import CosineContrastive as CosineContrastive
from retrieval.objectives import FullSoftmax as FullSoftmax
from retrieval.objectives import HeadLoss as HeadLoss
from retrieval.objectives import ImplicitSquared as ImplicitSquared
from retrieval.objectives import InBatchSoftmax as InBatchSoftmax
from retrieval.objectives import MultiTask as MultiTask
from retrieval.pipeline.recipe import Recipe as Recipe
from retrieval.pipeline.recipe import prepare as prepare
from retrieval.ranking.ranks import rank as rank
from retrieval.ranking.topk import top_k as top_k
from retrieval.serving.answers import Recommendations as Recommendations
from retrieval.serving.bundle import load as load
from retrieval.serving.recommender import Recommender as Recommender
from retrieval.training.ensemble import fit_many as fit_many
from retrieval.training.epochs import fit as fit
from retrieval.training.optimizers.by_name import TouchedRows as TouchedRows
from retrieval.training.step import TrainState as TrainState
from retrieval.training.step import create_state as create_state
from retrieval.training.step import train_step as train_step
