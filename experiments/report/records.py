"""The files that the programs of a run left in its folder, as the report reads them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from retrieval.pipeline.trained import FINAL

from ..shared.labels import MODEL, MODEL_TITLE, PROTOCOLS, SYSTEMS, model_title, system_label
from ..shared.workdir import Workdir

Interval = Sequence[float]


@dataclasses.dataclass(frozen=True)
class Records:
    """Files of a run; those that no program has written yet are empty.

    Attributes:
      log: the records of `metrics.jsonl`.
      metrics: `metrics.json`, "{system}/{protocol}/{metric}" -> number.
      intervals: `intervals.json`, the same names -> lower and upper bound of the 95 % interval.
      slices: `slices.json`.
      manifest: `manifest.json`.
      choice: phase and epoch of the checkpoint that is kept.
      model: title of the model, as "two towers".
    """

    log: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, float]
    intervals: Mapping[str, Interval]
    slices: Sequence[Mapping[str, Any]]
    manifest: Mapping[str, Any]
    choice: tuple[str, int]
    model: str = MODEL_TITLE

    @classmethod
    def read(cls, workdir: Workdir) -> Records:
        """Reads the files of a trained run.

        Raises:
          ValueError: the run is not trained yet, see `Workdir.read_choice`.
        """
        choice = workdir.read_choice()
        return cls(
            log=workdir.read_log(),
            metrics=workdir.read_metrics(),
            intervals=workdir.read_intervals(),
            slices=workdir.read_slices(),
            manifest=workdir.read_manifest(),
            choice=(choice.phase, choice.epoch),
            model=model_title(workdir.read_config()),
        )

    @property
    def systems(self) -> list[str]:
        """The systems that have ranking metrics, the model first."""
        parts = [name.split("/") for name in self.metrics]
        found = {part[0] for part in parts if len(part) > 2 and part[1] in PROTOCOLS and part[0] != "train"}
        return [name for name in SYSTEMS if name in found] + sorted(found - SYSTEMS.keys())

    def title(self, system: str) -> str:
        """Returns the name of a system as readers know it."""
        return system_label(system, self.model)

    def protocols(self) -> list[str]:
        """Returns the protocols that were evaluated, the main one first."""
        return [name for name in PROTOCOLS if any(f"/{name}/" in key for key in self.metrics)]

    def ks(self, metric: str) -> list[int]:
        """Returns the lengths of lists at which the model has a metric, ascending."""
        prefixes = [f"{MODEL}/{protocol}/{metric}_at_" for protocol in self.protocols()[:1]]
        ks = [key.removeprefix(prefix) for prefix in prefixes for key in self.metrics if key.startswith(prefix)]
        return sorted(int(k) for k in ks if k.isdigit())

    def phase(self, name: str) -> list[Mapping[str, Any]]:
        """Returns the log of one phase."""
        return [record for record in self.log if record["phase"] == name]

    def is_refitted(self) -> bool:
        """Tells whether the kept model is from the final phase."""
        return self.choice[0] == FINAL
