"""Loads and checks the data of an experiment."""

from __future__ import annotations

import json
import pathlib

from retrieval.config import checks
from retrieval.config import schema as config_lib
from retrieval.config.remedies import naming_fields
from retrieval.config.serialization import from_json
from retrieval.data import leakage
from retrieval.data.dataset import Dataset, load
from retrieval.data.fingerprint import Fingerprint
from retrieval.data.splits import STRATEGIES
from retrieval.pipeline.checks import check_experiment, check_parts
from retrieval.serving import bundle

from . import console
from .workdir import Workdir


def load_data(config: config_lib.Config, workdir: Workdir) -> Dataset:
    """Loads the data of a run, as `load_checked` does, and writes config and manifest into its folder.

    Raises:
      ValueError: the data are not usable, or a part holds what another asks.
    """
    for sentence in checks.unread(config):
        console.say(sentence)
    dataset = load_checked(config)
    workdir.begin(config, dataset)
    return dataset


@naming_fields()
def load_checked(config: config_lib.Config) -> Dataset:
    """Loads the data of an experiment, with a progress bar while they are fetched.

    Raises:
      ValueError: settings make no sense, the data are not usable, or a part holds what another asks.
    """
    check_experiment(config)
    with console.fetching() as progress:
        dataset = load(config.data, progress)
    check_parts(config, dataset.parts)
    strategy = STRATEGIES[config.data.split.strategy]
    num_repeated = leakage.check_parts(
        dataset.parts,
        repeats=not config.data.drop_duplicates,
        temporal=strategy.by_time,
        cold_candidates=strategy.by_candidate,
    )
    if num_repeated:
        console.say(f"{num_repeated} interactions before the test part have a pair that it has too")
    return dataset


def changes_of_data(folder: str) -> list[str]:
    """Returns a line for each file and column of the data that differs from the data of a bundle.

    They are compared where the bundle names files of the user, all of which exist. A published data set is not read.
    """
    try:
        manifest = bundle.read_manifest(folder)
        before = Fingerprint.from_record(manifest["data_columns"])
        data = from_json(json.dumps(manifest["config"])).data
    except (ValueError, KeyError):  # damaged, which the checks name, or of an earlier version
        return []
    names = [data.interactions, data.train, data.validation, data.test, data.candidates, data.queries]
    paths = [pathlib.Path(name).expanduser() for name in names if name]
    if data.dataset or not paths or not all(path.is_file() for path in paths):
        return []
    try:
        lines = load(data).differences(before)
    except ValueError as error:
        lines = [f"they cannot be read any more: {error}"]
    return [f"data have changed since the export: {line}" for line in lines] or ["data: as at the export"]
