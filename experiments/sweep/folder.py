"""The folder of a sweep: its files, the config and space that it belongs to, and its lock."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from retrieval.common.claims import LOCK_FILE, claimed
from retrieval.common.environment import git_commit, versions
from retrieval.common.manifest import read_manifest, write_manifest
from retrieval.common.storage import scratch_files
from retrieval.config.schema import Config
from retrieval.config.serialization import differences, from_json
from retrieval.config.space import Space, from_record, to_record
from retrieval.data.dataset import Dataset

from ..shared.data_facts import check_same_data, data_facts


@dataclasses.dataclass(frozen=True)
class Trial:
    """A training of the search phase with its own settings.

    Attributes:
      number: from 1 on, in the order in which the trials began.
      state: "complete"; "pruned", ended early as worse than the others; or "diverged", the loss was not finite.
      settings: values of the fields that vary.
      curve: (epoch, metric on the validation part) of each evaluation.
      seconds: wall time.
    """

    number: int
    state: str
    settings: dict[str, Any]
    curve: list[tuple[int, float]]
    seconds: float

    @property
    def best(self) -> tuple[int, float]:
        """The first epoch with the highest metric, and that metric."""
        return max(self.curve, key=lambda point: (point[1], -point[0]))


class SweepFolder:
    """Paths in the folder of a sweep, and its record of config, space and data."""

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        self.sweep_file = self.path / "sweep.json"
        self.journal = self.path / "journal.jsonl"
        self.checkpoints = self.path / "checkpoints"  # of unfinished trials
        self.trials_file = self.path / "trials.jsonl"
        self.best_file = self.path / "best.json"
        self.report_file = self.path / "sweep.html"
        self.report_plots = self.path / "report"

    def begin(self, config: Config, space: Space, dataset: Dataset) -> None:
        """Records config, space and data of the sweep, or checks them against the record of a sweep that began before.

        Raises:
          ValueError: the sweep began with another config, another space or other data.
        """
        if self.sweep_file.exists():
            return self._check(config, space, dataset)
        facts = {"versions": versions(), "git_commit": git_commit(), "data": data_facts(dataset)}
        record = {"config": dataclasses.asdict(config), "space": to_record(space), "manifest": facts}
        write_manifest(self.sweep_file, record)

    def _check(self, config: Config, space: Space, dataset: Dataset) -> None:
        begun_config, begun_space = self.read()
        lines = differences(begun_config, config)
        begun, given = to_record(begun_space), to_record(space)
        lines += [
            f"space of {field}: {begun.get(field, 'none')}, {given.get(field, 'none')}"
            for field in sorted(begun.keys() | given.keys())
            if begun.get(field) != given.get(field)
        ]
        if lines:
            raise ValueError(
                f"{self.path} holds a sweep of another config or space (field: in the folder, given):\n  "
                + "\n  ".join(lines)
                + "\nuse another --workdir, or the same config and space"
            )
        self.check_data(dataset)

    def check_data(self, dataset: Dataset) -> None:
        """Checks that a data set is the one that the sweep began on; see `check_same_data`."""
        check_same_data(self.path, self.manifest()["data"], dataset)

    def read(self) -> tuple[Config, Space]:
        """Returns the config and the space of the sweep."""
        record = self._record()
        return from_json(json.dumps(record["config"])), from_record(record["space"])

    def manifest(self) -> dict[str, Any]:
        """Returns versions, commit and data of the sweep."""
        return self._record()["manifest"]

    def _record(self) -> dict[str, Any]:
        """Returns the content of `sweep.json`; one without a hash is of an earlier version.

        Raises:
          ValueError: it is damaged.
        """
        try:
            return read_manifest(self.sweep_file)
        except ValueError as error:
            raise ValueError(f"{self.sweep_file} is damaged ({error}); use another --workdir") from None

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Holds the folder for this sweep while the block runs.

        Raises:
          FolderInUseError: a ValueError; another process works in the folder.
          ValueError: the folder has other content than a sweep.
        """
        if not self.sweep_file.exists() and self.path.exists():
            own = {self.path / LOCK_FILE, *scratch_files(self.path, [self.sweep_file.name])}
            if others := sorted(set(self.path.iterdir()) - own):
                raise ValueError(f"{self.path} holds no sweep, but {others[0].name!r}; use another --workdir")
        with claimed(self.path, "sweeps"):
            names = [path.name for path in (self.sweep_file, self.trials_file, self.best_file, self.report_file)]
            for path in scratch_files(self.path, names):
                path.unlink()
            yield
