"""The folder of a sweep: which files lie in it, whose they are, and who works on it."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from retrieval.common.environment import git_commit, versions
from retrieval.common.storage import write_json
from retrieval.config.schema import Config
from retrieval.config.serialization import differences, from_json
from retrieval.config.space import Space, from_record, to_record


@dataclasses.dataclass(frozen=True)
class Trial:
    """One training of the search phase, with settings of its own.

    Attributes:
      number: from 1 on, in the order of their beginnings.
      state: "complete"; "pruned", given up as worse than the others; or "diverged", the loss no longer finite.
      settings: values of the fields that vary.
      curve: (epoch, metric on the validation part) of each evaluation.
      seconds: of wall time.
    """

    number: int
    state: str
    settings: dict[str, Any]
    curve: list[tuple[int, float]]
    seconds: float

    @property
    def best(self) -> tuple[int, float]:
        """The first epoch with the highest metric, and the metric."""
        return max(self.curve, key=lambda point: (point[1], -point[0]))


class Folder:
    """Paths in the folder of a sweep, and what it was begun with."""

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        self.sweep_file = self.path / "sweep.json"
        self.journal = self.path / "journal.jsonl"
        self.checkpoints = self.path / "checkpoints"  # of the trials under way
        self.trials_file = self.path / "trials.jsonl"
        self.best_file = self.path / "best.json"
        self.report_file = self.path / "sweep.html"
        self.report_figures = self.path / "report"

    def begin(self, config: Config, space: Space, fingerprint: str) -> None:
        """Records what the sweep is of, unless it is begun already.

        Raises:
          ValueError: it was begun with another config, another space or other data.
        """
        if self.sweep_file.exists():
            return self._check(config, space, fingerprint)
        facts = {"versions": versions(), "git_commit": git_commit(), "data": {"fingerprint": fingerprint}}
        record = {"config": dataclasses.asdict(config), "space": to_record(space), "manifest": facts}
        write_json(self.sweep_file, record)

    def _check(self, config: Config, space: Space, fingerprint: str) -> None:
        begun_config, begun_space = self.read()
        lines = differences(begun_config, config)
        theirs, ours = to_record(begun_space), to_record(space)
        lines += [
            f"space of {field}: {theirs.get(field, 'none')}, {ours.get(field, 'none')}"
            for field in sorted(theirs.keys() | ours.keys())
            if theirs.get(field) != ours.get(field)
        ]
        if lines:
            raise ValueError(
                f"{self.path} holds a sweep of another config or space (field: there, here):\n  "
                + "\n  ".join(lines)
                + "\nuse another --workdir, or the same config and space"
            )
        before = self.manifest()["data"]["fingerprint"]
        if before != fingerprint:
            raise ValueError(
                f"{self.path} was begun on other data (fingerprint {before[:12]}, now {fingerprint[:12]}); "
                "use another --workdir"
            )

    def read(self) -> tuple[Config, Space]:
        """Returns the config and the space that the sweep was begun with."""
        record = self._record()
        return from_json(json.dumps(record["config"])), from_record(record["space"])

    def manifest(self) -> dict[str, Any]:
        """Returns how the sweep came about."""
        return self._record()["manifest"]

    def _record(self) -> dict[str, Any]:
        return json.loads(self.sweep_file.read_text(encoding="utf-8"))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the folder, so that no two sweeps work in it; a sweep that is killed lets go.

        Raises:
          ValueError: another sweep holds it, or something that is no sweep lies in it.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = self.path / ".lock"
        if not self.sweep_file.exists() and any(path != lock for path in self.path.iterdir()):
            raise ValueError(f"{self.path} is not empty and holds no sweep; use another --workdir")
        with lock.open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"another sweep works in {self.path}; wait for it, or use another --workdir") from None
            yield
