"""Loads and checks the data of an experiment."""

from __future__ import annotations

from experiments.shared import console
from experiments.shared.workdir import Workdir
from retrieval.config import checks
from retrieval.config import schema as config_lib
from retrieval.config.remedies import naming_fields
from retrieval.data import leakage
from retrieval.data.dataset import Dataset, load
from retrieval.data.splits import STRATEGIES
from retrieval.pipeline.checks import check_experiment, check_parts


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
