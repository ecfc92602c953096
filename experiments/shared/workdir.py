"""The folder of a run: its files, and the config and data that they belong to."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from retrieval.common.claims import LOCK_FILE, claimed
from retrieval.common.environment import git_commit, versions
from retrieval.common.folder_kinds import describe_folder
from retrieval.common.listed_folder import ListedFolder
from retrieval.common.storage import json_text, scratch_files, write_jsonl
from retrieval.config import schema as config_lib
from retrieval.config.serialization import differences, from_json, to_json
from retrieval.data.dataset import Dataset
from retrieval.evaluation.per_query import PerQuery, per_query_bytes, per_query_from_bytes
from retrieval.evaluation.protocol import Result
from retrieval.pipeline import export_trained
from retrieval.pipeline.trained import FINAL, SEARCH, ChosenEpoch
from retrieval.serving import bundle
from retrieval.sharding.devices import describe_devices

from . import console
from .data_facts import check_same_data, data_facts
from .labels import MODEL


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
        self._files = ListedFolder(self.path, self.manifest_file.name, _remedy)

    @contextlib.contextmanager
    def claimed(self, work: str) -> Iterator[None]:
        """Holds the folder for this process while the block runs, and removes what a killed process left half written.

        Args:
          work: what the process does, as "trains".

        Raises:
          FolderInUseError: a ValueError; another process works in the folder.
          ValueError: the folder has other content than a run.
        """
        self._check_empty_or_run()
        with claimed(self.path, work):
            for path in self._scratch_files():
                path.unlink()
            if unlisted := self._files.unlisted([self._name(self.config_file), self._name(self.choice_file)]):
                console.say(
                    f"{self.path} is of an earlier version, without hashes of {' and '.join(unlisted)}: damage to them "
                    "is not noticed"
                )
            yield

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
        self._check_empty_or_run()

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
        self._files.begin(facts, {self._name(self.config_file): to_json(config)})

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
            raise ValueError(f"{self.path} holds no run: it {describe_folder(self.path)}; experiments.run makes runs")
        return self._files.read(self._name(self.config_file), lambda content: from_json(str(content, "utf-8")))

    def read_choice(self) -> ChosenEpoch:
        """Reads the phase and epoch of the chosen checkpoint.

        Raises:
          ValueError: the training has not ended.
        """
        if not self.choice_file.exists():
            raise ValueError(f"{self.path} holds no trained model yet; experiments.train makes one")
        return self._files.read(self._name(self.choice_file), _choice)

    def write_choice(self, choice: ChosenEpoch) -> None:
        """Records phase and epoch of the chosen checkpoint, and lists the log of the epochs, which is complete."""
        self._files.list_file(self._name(self.log_file))
        self._write({self.choice_file: dataclasses.asdict(choice)})

    def write_log(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Replaces the log of the epochs, which is verified once the training has ended."""
        self._files.unlist_file(self._name(self.log_file))
        write_jsonl(self.log_file, records)

    def read_log(self) -> list[dict[str, Any]]:
        """Returns the record of each epoch; empty before the first."""
        return self._files.read(self._name(self.log_file), lambda text: list(map(json.loads, text.splitlines()))) or []

    def read_manifest(self) -> dict[str, Any]:
        """Returns versions, device, seed and data of the run; empty before it is begun."""
        return self._files.facts()

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
        per_query = self._files.read(self._name(path), per_query_from_bytes)
        if per_query is None:
            program = "experiments.evaluate" if system == "test" else f"experiments.baselines --baselines={system}"
            raise ValueError(
                f"{self.path} has no values of each query of {system!r}: {program} writes them "
                f"(there are {', '.join(self.systems()) or 'none'})"
            )
        return per_query

    def read_metrics(self) -> dict[str, float]:
        """Returns the metrics so far; empty before the first."""
        return _with_nan(self._read(self.metrics_file, {}))

    def read_intervals(self) -> dict[str, tuple[float, float]]:
        """Returns the intervals of the metrics, by the same names; empty before the first."""
        return {name: (low, high) for name, (low, high) in _with_nan(self._read(self.intervals_file, {})).items()}

    def read_baselines(self) -> dict[str, dict[str, Any]]:
        """Returns the settings of each evaluated baseline, by name; empty before the first."""
        return self._read(self.baselines_file, {})

    def add_baseline(self, name: str, record: dict[str, Any]) -> None:
        """Records the settings of an evaluated baseline."""
        self._write({self.baselines_file: self.read_baselines() | {name: record}})

    def read_slices(self) -> list[dict[str, Any]]:
        """Returns the metrics of the slices, a record for each slice and system; empty before the first."""
        return _with_nan(self._read(self.slices_file, []))

    def add_metrics(self, metrics: dict[str, float]) -> None:
        """Adds metrics to `metrics.json`, replacing those of the same names."""
        self._write({self.metrics_file: self.read_metrics() | metrics})

    def add_result(self, system: str, result: Result) -> None:
        """Adds the evaluation of a system to the files of the run, replacing an earlier one.

        `metrics.json` is written last: a system that is in it is in all other files.
        """
        intervals = {f"{system}/{name}": interval for name, interval in result.intervals.items()}
        others = [record for record in self.read_slices() if record["system"] != system]
        records = [{"system": system} | sliced.to_record() for sliced in result.slices]
        metrics = {f"{system}/{name}": value for name, value in result.metrics.items()}
        contents = {
            self.intervals_file: self.read_intervals() | intervals,
            self.slices_file: others + records,
            self.metrics_file: self.read_metrics() | metrics,
        }
        per_query = {self._name(self.per_query_file(system)): [per_query_bytes(result.per_query)]}
        self._files.write(per_query | self._in_json(contents))

    def _check_empty_or_run(self) -> None:
        """Raises ValueError if the folder has other content than a run, or than what one killed at its start leaves."""
        if self.config_file.exists() or not self.path.exists():
            return
        own = {self.manifest_file, self.path / LOCK_FILE, *self._scratch_files()}
        if others := sorted(set(self.path.iterdir()) - own):
            found = describe_folder(self.path)
            raise ValueError(f"{self.path} holds no run, but {others[0].name!r}: it {found}; use another --workdir")

    def _scratch_files(self) -> list[pathlib.Path]:
        """Returns the half-written files of killed processes."""
        names = [path.name for path in vars(self).values() if isinstance(path, pathlib.Path) and path.suffix]
        found = scratch_files(self.path, names) + scratch_files(self.checkpoints, [self.choice_file.name])
        folders = [self.per_query_file(MODEL).parent, self.report_plots]
        return found + [path for folder in folders for path in scratch_files(folder, None)]

    def _name(self, path: pathlib.Path) -> str:
        """Returns the name of a file in the manifest."""
        return path.relative_to(self.path).as_posix()

    def _read(self, path: pathlib.Path, missing: Any) -> Any:
        return self._files.json(self._name(path), missing)

    def _write(self, contents: Mapping[pathlib.Path, Any]) -> None:
        self._files.write(self._in_json(contents))

    def _in_json(self, contents: Mapping[pathlib.Path, Any]) -> dict[str, list[bytes]]:
        return {self._name(path): [json_text(values).encode()] for path, values in contents.items()}


def _with_nan(value: Any) -> Any:
    """Returns a JSON value with NaN in place of null."""
    if isinstance(value, dict):
        return {key: _with_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_nan(item) for item in value]
    return math.nan if value is None else value


def _choice(content: bytes) -> ChosenEpoch:
    """Returns the choice that a file holds.

    Raises:
      ValueError: it holds something else.
    """
    record = json.loads(content)
    phase, epoch = (record.get("phase"), record.get("epoch")) if isinstance(record, dict) else (None, None)
    if phase not in (SEARCH, FINAL) or type(epoch) is not int:
        raise ValueError(f"no phase and epoch of a training, got {record!r:.80}")
    return ChosenEpoch(phase, epoch)


def _remedy(name: str) -> str:
    """Returns the advice at the end of an error about a file of a run."""
    if name in ("config.json", "manifest.json"):
        return "copy the run again, or run it anew in another --workdir"
    if name == "checkpoints/choice.json":
        return "remove it: experiments.train then chooses again, from the checkpoints"
    if name == "metrics.jsonl":
        return "remove it and checkpoints/choice.json: experiments.train writes both again"
    return "remove it and evaluate again"
