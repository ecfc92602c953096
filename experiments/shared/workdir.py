"""The folder of a run: its files, and the config and data that they belong to."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any

from experiments.shared.data_facts import check_same_data, data_facts
from experiments.shared.labels import MODEL
from retrieval.common.environment import git_commit, versions
from retrieval.common.storage import write_atomically, write_json
from retrieval.config import schema as config_lib
from retrieval.config.serialization import differences, from_json, to_json
from retrieval.data.dataset import Dataset
from retrieval.evaluation.per_query import PerQuery, read_per_query, write_per_query
from retrieval.evaluation.protocol import Result
from retrieval.pipeline import export_trained
from retrieval.pipeline.trained import ChosenEpoch
from retrieval.serving import bundle
from retrieval.sharding.devices import describe_devices


def training_seconds(metrics: Mapping[str, float], system: str) -> float | None:
    """Returns the seconds that a system took to train, with the choice of its settings on the validation part.

    Args:
      metrics: all metrics of a run, by name.
      system: the model or a baseline; None where its time was not measured.
    """
    names = ["seconds/train"] if system == MODEL else [f"{system}/seconds/tune", f"{system}/seconds/fit"]
    return sum(metrics[name] for name in names) if all(name in metrics for name in names) else None


class Workdir:
    """Paths in the folder of a run, and the records that its stages read and write there."""

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        self.config_file = self.path / "config.json"
        self.log_file = self.path / "metrics.jsonl"
        self.metrics_file = self.path / "metrics.json"
        self.intervals_file = self.path / "intervals.json"
        self.slices_file = self.path / "slices.json"
        self.baselines_file = self.path / "baselines.json"
        self.manifest_file = self.path / "manifest.json"
        self.checkpoints = self.path / "checkpoints"
        self.choice_file = self.checkpoints / "choice.json"
        self.profile = self.path / "profile"
        self.bundle = self.path / "bundle"
        exports = self.bundle / bundle.EXPORTS
        self.candidate_vectors = exports / export_trained.CANDIDATE_VECTORS
        self.query_vectors = exports / export_trained.QUERY_VECTORS
        self.saved_model = exports / export_trained.SAVED_MODEL
        self.report_file = self.path / "report.html"
        self.report_plots = self.path / "report"
        self.tensorboard = self.path / "tensorboard"

    def check(self, config: config_lib.Config) -> None:
        """Checks that the experiment can run in the folder; writes nothing.

        Raises:
          ValueError: the folder has a run of another config, or other content.
        """
        if self._is_begun():
            if lines := differences(self.read_config(), config):
                raise ValueError(
                    f"{self.path} holds a run of another config (field: in the folder, given):\n  "
                    + "\n  ".join(lines)
                    + "\nuse another --workdir, or the same config"
                )
        elif not self.config_file.exists() and self.path.exists() and any(self.path.iterdir()):
            raise ValueError(f"{self.path} is not empty and holds no run; use another --workdir")

    def begin(self, config: config_lib.Config, dataset: Dataset) -> None:
        """Writes config and manifest of the run, or checks the data of a run that began before.

        Raises:
          ValueError: the run began on other data.
        """
        if self._is_begun():
            return self.check_data(dataset)
        facts = {
            "versions": versions(),
            "git_commit": git_commit(),
            "device": describe_devices(),
            "seed": config.train.seed,
            "data": {**data_facts(dataset), "duplicates_dropped": dataset.num_duplicates},
        }
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config_file, to_json(config))
        write_json(self.manifest_file, facts)

    def check_data(self, dataset: Dataset) -> None:
        """Checks that a data set is the one that the run began on, if it began; see `check_same_data`."""
        if self._is_begun():
            check_same_data(self.path, self.read_manifest().get("data", {}), dataset)

    def _is_begun(self) -> bool:
        """Tells whether an epoch is logged or a baseline evaluated; before that, the folder belongs to no config."""
        return self.log_file.exists() or self.metrics_file.exists()

    def read_config(self) -> config_lib.Config:
        """Reads the config of the run.

        Raises:
          ValueError: the folder has no run.
        """
        if not self.config_file.exists():
            raise ValueError(f"{self.path} holds no run: it has no config.json; experiments.run makes one")
        try:
            return from_json(self.config_file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{self.config_file}: {error}") from None

    def read_choice(self) -> ChosenEpoch:
        """Reads the phase and epoch of the chosen checkpoint.

        Raises:
          ValueError: the training has not ended.
        """
        if not self.choice_file.exists():
            raise ValueError(f"{self.path} holds no trained model yet; experiments.train makes one")
        return ChosenEpoch(**json.loads(self.choice_file.read_text(encoding="utf-8")))

    def read_manifest(self) -> dict[str, Any]:
        """Returns versions, device, seed and data of the run; empty before it is begun."""
        return _read(self.manifest_file, {})

    def per_query_file(self, system: str) -> pathlib.Path:
        """Returns the path of the metrics of each query of a system: "test", which is the model, or a baseline."""
        return self.path / "per_query" / f"{system}.parquet"

    def systems(self) -> list[str]:
        """Returns the names of the systems that have metrics of each query: "test", "towers" and baselines."""
        return sorted(path.stem for path in self.per_query_file("test").parent.glob("*.parquet"))

    def read_per_query(self, system: str) -> PerQuery:
        """Reads the metrics of each query of a system.

        Raises:
          ValueError: the file is missing or damaged.
        """
        path = self.per_query_file(system)
        if not path.exists():
            program = "experiments.evaluate" if system == "test" else f"experiments.baselines --baselines={system}"
            raise ValueError(
                f"{self.path} has no values of each query of {system!r}: {program} writes them "
                f"(there are {', '.join(self.systems()) or 'none'})"
            )
        return read_per_query(path)

    def read_metrics(self) -> dict[str, float]:
        """Returns the metrics so far; empty before the first."""
        return _with_nan(_read(self.metrics_file, {}))

    def read_intervals(self) -> dict[str, tuple[float, float]]:
        """Returns the intervals of the metrics, by the same names; empty before the first."""
        return {name: (low, high) for name, (low, high) in _with_nan(_read(self.intervals_file, {})).items()}

    def read_baselines(self) -> dict[str, dict[str, Any]]:
        """Returns the settings of each evaluated baseline, by name; empty before the first."""
        return _read(self.baselines_file, {})

    def add_baseline(self, name: str, record: dict[str, Any]) -> None:
        """Records the settings of an evaluated baseline."""
        write_json(self.baselines_file, self.read_baselines() | {name: record})

    def read_slices(self) -> list[dict[str, Any]]:
        """Returns the metrics of the slices, a record for each slice and system; empty before the first."""
        return _with_nan(_read(self.slices_file, []))

    def add_metrics(self, metrics: dict[str, float]) -> None:
        """Adds metrics to `metrics.json`, replacing those of the same names."""
        write_json(self.metrics_file, self.read_metrics() | metrics)

    def add_result(self, system: str, result: Result) -> None:
        """Adds the evaluation of a system to the files of the run, replacing an earlier one.

        `metrics.json` is written last: a system that is in it is in all other files.
        """
        path = self.per_query_file(system)
        path.parent.mkdir(exist_ok=True)
        write_per_query(path, result.per_query)
        intervals = {f"{system}/{name}": interval for name, interval in result.intervals.items()}
        write_json(self.intervals_file, self.read_intervals() | intervals)
        others = [record for record in self.read_slices() if record["system"] != system]
        records = [{"system": system} | sliced.to_record() for sliced in result.slices]
        write_json(self.slices_file, others + records)
        self.add_metrics({f"{system}/{name}": value for name, value in result.metrics.items()})


def _with_nan(value: Any) -> Any:
    """Returns a JSON value with NaN in place of null."""
    if isinstance(value, dict):
        return {key: _with_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value


def _read(path: pathlib.Path, missing: Any) -> Any:
    """Returns the content of a JSON file, or `missing` without the file."""
    if not path.exists():
        return missing
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); remove it and evaluate again") from None
