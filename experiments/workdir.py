"""The folder of a run: which files lie in it, and whose they are."""

from __future__ import annotations

import json
import pathlib

from experiments import console
from retrieval import config as config_lib
from retrieval.data.dataset import Dataset, load
from retrieval.evaluate import check_ks
from retrieval.logs import device, git_commit, versions
from retrieval.phases import Choice
from retrieval.storage import write_atomically, write_json


class Workdir:
    """Paths in the folder of a run, and what the stages of a run hand on through it."""

    def __init__(self, path: str | pathlib.Path):
        self.path = pathlib.Path(path)
        self.config_file = self.path / "config.json"
        self.log_file = self.path / "metrics.jsonl"
        self.metrics_file = self.path / "metrics.json"
        self.intervals_file = self.path / "intervals.json"
        self.slices_file = self.path / "slices.json"
        self.manifest_file = self.path / "manifest.json"
        self.checkpoints = self.path / "checkpoints"
        self.choice_file = self.checkpoints / "choice.json"
        self.profile = self.path / "profile"
        self.bundle = self.path / "bundle"
        self.saved_model = self.path / "saved_model"
        self.report_file = self.path / "report.html"
        self.report_figures = self.path / "report"
        self.tensorboard = self.path / "tensorboard"

    def check(self, config: config_lib.Config) -> None:
        """Checks that the experiment can run in the folder; writes nothing.

        Raises:
          ValueError: the folder holds a run of another config, or something that is no run.
        """
        if self._is_begun():
            if lines := config_lib.differences(self.read_config(), config):
                raise ValueError(
                    f"{self.path} holds a run of another config (field: there, here):\n  "
                    + "\n  ".join(lines)
                    + "\nuse another --workdir, or the same config"
                )
        elif not self.config_file.exists() and self.path.exists() and any(self.path.iterdir()):
            raise ValueError(f"{self.path} is not empty and holds no run; use another --workdir")

    def begin(self, config: config_lib.Config, dataset: Dataset) -> None:
        """Records the config and how the run comes about, unless it is begun already.

        Raises:
          ValueError: it was begun on other data.
        """
        fingerprint = dataset.fingerprint()
        if self._is_begun():
            before = json.loads(self.manifest_file.read_text(encoding="utf-8"))["data"]["fingerprint"]
            if before != fingerprint:
                raise ValueError(
                    f"{self.path} was begun on other data (fingerprint {before[:12]}, now {fingerprint[:12]}); "
                    "use another --workdir"
                )
            return
        facts = {
            "versions": versions(),
            "git_commit": git_commit(),
            "device": device(),
            "seed": config.train.seed,
            "data": {"fingerprint": fingerprint, "duplicates_dropped": dataset.num_duplicates},
        }
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(self.config_file, config_lib.to_json(config))
        write_json(self.manifest_file, facts)

    def _is_begun(self) -> bool:
        """Tells whether an epoch is logged: a folder without one belongs to no config yet."""
        return self.log_file.exists()

    def read_config(self) -> config_lib.Config:
        """Reads the config of the run.

        Raises:
          ValueError: there is no run in the folder.
        """
        if not self.config_file.exists():
            raise ValueError(f"{self.path} holds no run: it has no config.json; experiments.run makes one")
        return config_lib.from_json(self.config_file.read_text(encoding="utf-8"))

    def read_choice(self) -> Choice:
        """Reads which checkpoint the training ended with.

        Raises:
          ValueError: the training has not ended.
        """
        if not self.choice_file.exists():
            raise ValueError(f"{self.path} holds no trained model yet; experiments.train makes one")
        return Choice(**json.loads(self.choice_file.read_text(encoding="utf-8")))

    def read_metrics(self) -> dict[str, float]:
        """Returns the figures so far; empty where there are none."""
        if not self.metrics_file.exists():
            return {}
        return json.loads(self.metrics_file.read_text(encoding="utf-8"))

    def add_metrics(self, figures: dict[str, float]) -> None:
        """Adds figures to `metrics.json`, in place of those of the same names."""
        write_json(self.metrics_file, self.read_metrics() | figures)


def load_data(config: config_lib.Config, workdir: Workdir) -> Dataset:
    """Loads the data of the run, with a progress bar while they are fetched, and begins the run on them.

    Raises:
      ValueError: the data are not usable, or too small for what the config asks.
    """
    with console.fetching() as progress:
        dataset = load(config.data, progress)
    check_ks([*config.evaluate.ks, *config.evaluate.top_k_accuracies], len(dataset.corpus))
    workdir.begin(config, dataset)
    return dataset
