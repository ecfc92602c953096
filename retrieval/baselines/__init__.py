"""Baselines: the bar that every run is shown against.

All learn from the same `Training` and answer with scores of the whole corpus for the history of a query, so that each
goes through the same evaluation as a model, and new queries need no training. A query without history gets the most
popular candidates.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from retrieval.baselines import content, ease, ials, neighbours, popularity
from retrieval.baselines.base import Scorer, Training
from retrieval.baselines.popularity import most_popular


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A baseline, and the settings that validation data choose from.

    Attributes:
      title: as tables and plots name it.
      fit: (training, **settings) -> scorer.
      axes: the values of each setting that is searched, in their order.
      start: where the search begins; the settings to take without validation data.
      by_time: whether it needs timestamps.
      by_attributes: whether it needs attributes of the candidates.
      marker: of its curve in plots, as matplotlib names markers.
    """

    title: str
    fit: Callable[..., Scorer]
    axes: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    start: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    by_time: bool = False
    by_attributes: bool = False
    marker: str = "*"


BASELINES: dict[str, Baseline] = {
    "random": Baseline("random", popularity.random, marker="."),
    "popularity": Baseline("most popular", popularity.overall, marker="s"),
    "recent_popularity": Baseline(
        "recent popular",
        popularity.recent,
        {"days": (1.0, 3.0, 7.0, 14.0, 30.0, 60.0, 120.0, 240.0)},
        {"days": 30.0},
        by_time=True,
        marker="X",
    ),
    "last_week_popularity": Baseline(
        "popular of the last week", popularity.recent, {"days": (7.0,)}, {"days": 7.0}, by_time=True, marker="p"
    ),
    "content": Baseline(
        "content, TF-IDF",
        content.tf_idf,
        {"title_weight": (0.0, 0.25, 0.5, 1.0, 2.0)},
        {"title_weight": 1.0},
        by_attributes=True,
    ),
    "item_knn_cosine": Baseline(
        "item-kNN, cosine",
        neighbours.cosine,
        {"neighbours": (20, 50, 100, 200, 400, 800), "shrinkage": (0.0, 3.0, 10.0, 30.0, 100.0)},
        {"neighbours": 200, "shrinkage": 10.0},
        marker="P",
    ),
    "item_knn_bm25": Baseline(
        "item-kNN, BM25",
        neighbours.bm25,
        {"neighbours": (50, 100, 200, 400, 800), "k1": (0.3, 0.6, 1.2, 2.4, 4.8), "b": (0.2, 0.4, 0.6, 0.8, 1.0)},
        {"neighbours": 400, "k1": 1.2, "b": 0.4},
        marker="v",
    ),
    "ease": Baseline(
        "EASE",
        ease.fit,
        {"regularization": (50.0, 100.0, 200.0, 350.0, 500.0, 700.0, 1000.0, 1500.0, 2500.0)},
        {"regularization": 500.0},
        marker="^",
    ),
    "ease_nearby": Baseline(
        "EASE of near pairs",
        ease.fit,
        {
            "regularization": (5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0),
            "half_distance": (1.0, 2.0, 5.0, 10.0, 20.0, 50.0),
        },
        {"regularization": 100.0, "half_distance": 5.0},
        by_time=True,
        marker="<",
    ),
    "ials": Baseline(
        "iALS",
        ials.fit,
        {
            "factors": (64, 128, 256),
            "regularization": (3.0, 6.0, 12.0, 20.0, 30.0, 37.5, 48.0, 75.0, 120.0),
            "alpha": (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0),
            "iterations": (6, 10, 16, 30),
        },
        {"factors": 64, "regularization": 37.5, "alpha": 5.0, "iterations": 10},
        marker="D",
    ),
}

__all__ = ["BASELINES", "Baseline", "Scorer", "Training", "most_popular"]
