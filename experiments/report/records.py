"""What the programs of a run left in its folder, as the report reads it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.shared.workdir import MODEL, Workdir
from retrieval.pipeline.search_and_fit import FINAL

POPULARITY = "popularity"
SYSTEMS = {  # as tables and curves order them; what is not here stands behind, under its own name
    MODEL: "this model",
    "ials": "iALS",
    "ease": "EASE",
    "ease_nearby": "EASE of near pairs",
    "item_knn_bm25": "item-kNN, BM25",
    "item_knn_cosine": "item-kNN, cosine",
    "content": "content, TF-IDF",
    "recent_popularity": "recent popular",
    "last_week_popularity": "popular of the last week",
    POPULARITY: "most popular",
    "random": "random",
}
PROTOCOLS = {
    "excluding_seen": "train excluded",
    "including_seen": "nothing excluded",
    "cold_candidates": "candidates that train does not know, among themselves",
}
METRICS = {
    "ndcg": "nDCG",
    "recall": "recall",
    "capped_recall": "capped recall",
    "precision": "precision",
    "hit_rate": "hit rate",
    "mrr": "MRR",
    "map": "MAP",
    "auc": "AUC",
    "mean_rank": "mean rank",
    "mse": "MSE",
    "rmse": "RMSE",
    "mae": "MAE",
    "log_loss": "log loss",
    "coverage": "coverage",
    "gini": "Gini",
    "novelty": "novelty, bits",
    "diversity": "diversity",
    "average_popularity": "mean popularity",
    "popularity_lift": "popularity lift",
}
Interval = Sequence[float]


@dataclasses.dataclass(frozen=True)
class Records:
    """Files of a run; what a program has not written yet is empty.

    Attributes:
      log: the records of `metrics.jsonl`.
      figures: `metrics.json`, "{system}/{protocol}/{metric}" -> number.
      intervals: `intervals.json`, the same names -> lowest and highest of the 95 % interval.
      slices: `slices.json`.
      manifest: `manifest.json`.
      choice: phase and epoch of the checkpoint that is kept.
    """

    log: Sequence[Mapping[str, Any]]
    figures: Mapping[str, float]
    intervals: Mapping[str, Interval]
    slices: Sequence[Mapping[str, Any]]
    manifest: Mapping[str, Any]
    choice: tuple[str, int]

    @classmethod
    def read(cls, workdir: Workdir) -> Records:
        """Reads the files of a trained run.

        Raises:
          ValueError: the run is not trained yet, see `Workdir.read_choice`.
        """
        choice = workdir.read_choice()
        lines = workdir.log_file.read_text(encoding="utf-8").splitlines()
        return cls(
            log=[json.loads(line) for line in lines],
            figures=workdir.read_metrics(),
            intervals=workdir.read_intervals(),
            slices=workdir.read_slices(),
            manifest=_read_json(workdir.manifest_file, {}),
            choice=(choice.phase, choice.epoch),
        )

    @property
    def systems(self) -> list[str]:
        """The systems that have figures, the model first."""
        parts = [name.split("/") for name in self.figures]
        found = {part[0] for part in parts if len(part) > 2 and part[1] in PROTOCOLS and part[0] != "train"}
        return [name for name in SYSTEMS if name in found] + sorted(found - SYSTEMS.keys())

    def protocols(self) -> list[str]:
        """Returns the ways of excluding that there are figures of, the usual one first."""
        return [name for name in PROTOCOLS if any(f"/{name}/" in key for key in self.figures)]

    def ks(self, metric: str) -> list[int]:
        """Returns the lengths of lists that the model has a metric for, ascending."""
        prefixes = [f"{MODEL}/{protocol}/{metric}_at_" for protocol in self.protocols()[:1]]
        ks = [key.removeprefix(prefix) for prefix in prefixes for key in self.figures if key.startswith(prefix)]
        return sorted(int(k) for k in ks if k.isdigit())

    def phase(self, name: str) -> list[Mapping[str, Any]]:
        """Returns the log of one phase."""
        return [record for record in self.log if record["phase"] == name]

    def is_refitted(self) -> bool:
        """Tells whether the kept model is that of the final phase."""
        return self.choice[0] == FINAL


def system_label(system: str) -> str:
    """Returns the name of a system as readers know it."""
    return SYSTEMS[system] if system in SYSTEMS else system.replace("_", " ")


def metric_label(name: str) -> str:
    """Returns the name of a metric as readers know it.

    >>> metric_label("excluding_seen/ndcg_at_10"), metric_label("auc"), metric_label("interactions/mrr_at_5")
    ('nDCG@10', 'AUC', 'MRR@5, interactions')
    """
    *groups, last = name.split("/")
    metric, _, k = last.partition("_at_")
    label = METRICS[metric] if metric in METRICS else metric.replace("_", " ")
    label = f"{label}@{k}" if k else label
    return f"{label}, interactions" if "interactions" in groups else label


def number(value: float) -> str:
    """Returns a number as the report prints it: four decimals, or fewer where it is large.

    >>> number(0.37141), number(71.26), number(1234567.0), number(float("nan"))
    ('0.3714', '71.3', '1,234,567', '–')
    """
    if value != value:
        return "–"
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:,.0f}"


def _read_json(path: pathlib.Path, otherwise: Any) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else otherwise
