"""The registry of baselines: a new one is a file with a function from `Training` to a scorer, and an entry here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from retrieval.baselines import content, ease, ials, neighbours, popularity
from retrieval.baselines.base import Scorer


@dataclasses.dataclass(frozen=True)
class Baseline:
    """A baseline, the settings that are searched on validation data, and how reports show it.

    Attributes:
      fit: (training, **settings) -> scorer.
      title: its name for readers.
      axes: the values of each setting that are tried, in their order.
      start: the settings that the search starts with, and those to take without validation data.
      needs_timestamps: whether it reads the timestamps of the interactions.
      needs_attributes: whether it reads attributes of the candidates.
      colour: the colour in plots, a name of the report's palette.
      marker: the marker in plots, as matplotlib names it.
    """

    fit: Callable[..., Scorer]
    title: str
    axes: Mapping[str, Sequence[Any]] = dataclasses.field(default_factory=dict)
    start: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    needs_timestamps: bool = False
    needs_attributes: bool = False
    colour: str = "grey"
    marker: str = "*"


BASELINES: dict[str, Baseline] = {  # in the order of tables
    "ials": Baseline(
        ials.fit,
        "iALS",
        {
            "factors": (64, 128, 256),
            "regularization": (3.0, 6.0, 12.0, 20.0, 30.0, 37.5, 48.0, 75.0, 120.0),
            "alpha": (2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 12.0),
            "iterations": (6, 10, 16, 30),
        },
        {"factors": 64, "regularization": 37.5, "alpha": 5.0, "iterations": 10},
        colour="green",
        marker="D",
    ),
    "ease": Baseline(
        ease.fit,
        "EASE",
        {"regularization": (50.0, 100.0, 200.0, 350.0, 500.0, 700.0, 1000.0, 1500.0, 2500.0)},
        {"regularization": 500.0},
        colour="pink",
        marker="^",
    ),
    "ease_nearby": Baseline(
        ease.fit,
        "EASE of near pairs",
        {
            "regularization": (5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 400.0),
            "half_distance": (1.0, 2.0, 5.0, 10.0, 20.0, 50.0),
        },
        {"regularization": 100.0, "half_distance": 5.0},
        needs_timestamps=True,
        colour="pink",
        marker="<",
    ),
    "item_knn_bm25": Baseline(
        neighbours.bm25,
        "item-kNN, BM25",
        {"neighbours": (50, 100, 200, 400, 800), "k1": (0.3, 0.6, 1.2, 2.4, 4.8), "b": (0.2, 0.4, 0.6, 0.8, 1.0)},
        {"neighbours": 400, "k1": 1.2, "b": 0.4},
        colour="orange",
        marker="v",
    ),
    "item_knn_cosine": Baseline(
        neighbours.cosine,
        "item-kNN, cosine",
        {"neighbours": (20, 50, 100, 200, 400, 800), "shrinkage": (0.0, 3.0, 10.0, 30.0, 100.0)},
        {"neighbours": 200, "shrinkage": 10.0},
        colour="sky",
        marker="P",
    ),
    "content": Baseline(
        content.tf_idf,
        "content, TF-IDF",
        {"title_weight": (0.0, 0.25, 0.5, 1.0, 2.0)},
        {"title_weight": 1.0},
        needs_attributes=True,
    ),
    "recent_popularity": Baseline(
        popularity.recent,
        "recent popular",
        {"days": (1.0, 3.0, 7.0, 14.0, 30.0, 60.0, 120.0, 240.0)},
        {"days": 30.0},
        needs_timestamps=True,
        colour="violet",
        marker="X",
    ),
    "last_week_popularity": Baseline(
        popularity.recent,
        "popular of the last week",
        {"days": (7.0,)},
        {"days": 7.0},
        needs_timestamps=True,
        colour="violet",
        marker="p",
    ),
    "popularity": Baseline(popularity.overall, "most popular", colour="vermillion", marker="s"),
    "random": Baseline(popularity.random, "random", marker="."),
}
