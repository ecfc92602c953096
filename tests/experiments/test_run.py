"""A whole run in one process: nothing is made twice that was made before."""

import collections
import json

import pytest

from configs import synthetic
from experiments.run import run
from experiments.shared.workdir import Workdir
from retrieval.config.schema import Addition
from retrieval.pipeline import additions, recipe
from retrieval.serving.bundle import reading, writing
from retrieval.training.checkpoint import Checkpoints


@pytest.fixture
def calls(monkeypatch):
    """Counts the calls of what is expensive, by name."""
    counts = collections.Counter()

    def count(owner, name):
        function = getattr(owner, name)

        def counted(*arguments, **options):
            counts[name] += 1
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, counted)

    count(recipe, "prepare")
    count(additions.ease, "towers")
    count(Checkpoints, "last")
    count(writing, "read")
    count(reading, "read")
    return counts


@pytest.mark.slow
def test_each_phase_prepares_once_and_what_is_trained_or_bundled_is_not_loaded_again(tmp_path, calls, monkeypatch):
    config = synthetic.get_config()
    config.train.epochs, config.train.patience = 2, 0
    config.model.additions = (Addition("ease", weight=0.5, arguments={"rank": 8}),)
    workdir = Workdir(tmp_path / "run")
    run(config, workdir)
    assert calls["prepare"] == calls["towers"] == 2  # the search, and the final phase
    assert calls["last"] == 2  # each phase looks for a checkpoint to resume from; nothing is restored
    assert calls["read"] == 1  # the bundle, to ask it its golden queries

    metrics = json.loads(workdir.metrics_file.read_text())
    towers, model = (metrics[f"{system}/excluding_seen/ndcg_at_10"] for system in ("towers", "test"))
    assert towers != model
    workdir.metrics_file.unlink()  # as if the run had been interrupted after the training
    calls.clear()
    run(config, workdir)
    assert calls["prepare"] == calls["towers"] == calls["last"] == 1
    resumed = json.loads(workdir.metrics_file.read_text())
    assert {k: v for k, v in resumed.items() if "seconds" not in k} == {
        k: v for k, v in metrics.items() if "seconds" not in k
    }
