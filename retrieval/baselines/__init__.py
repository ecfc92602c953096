"""Baselines: scorers without gradient training, which every model is compared with.

A baseline is fitted to a `Training` and scores the whole corpus for the histories of queries, so that it passes through
the same evaluation as a model, and new queries need no training. Queries without history get the most popular
candidates.
"""

from retrieval.baselines.base import Scorer, Training
from retrieval.baselines.popularity import most_popular
from retrieval.baselines.registry import BASELINES, Baseline

__all__ = ["BASELINES", "Baseline", "Scorer", "Training", "most_popular"]
