"""Data of a few events in odd shapes run from training to recommendations, or are refused before any training."""

import numpy as np
import pytest

from experiments.run import run
from experiments.shared import tables
from experiments.shared.workdir import Workdir
from retrieval.serving import bundle
from tests.cases.shape_cases import OF_LOSS, REFUSED, RUNS, experiment

QUICK = ("one item", "others in test")


def check_run(folder, name, loss="in_batch_softmax", kind=""):
    """Runs an experiment to its bundle and report, and asks the bundle."""
    workdir = Workdir(folder / "run")
    run(experiment(folder, *RUNS[name], loss, kind), workdir)
    assert workdir.report_file.exists()
    tables.print_metrics(workdir)
    recommender = bundle.load(workdir.bundle)
    if kind:
        assert recommender.index.kind == kind
    known, titles = recommender.queries.ids[:2], recommender.titles
    for answer in (recommender.recommend(known, 5), recommender.recommend([12345], 5)):
        found = answer.positions[answer.positions >= 0]
        assert np.isfinite(answer.scores[answer.positions >= 0]).all() and (found < len(titles)).all()
    everything = recommender.recommend(known, 5, exclude_seen=False)
    unlike = recommender.similar_users([12345], 3)
    assert np.isneginf(unlike.scores).all()
    assert (np.sum(everything.positions >= 0, axis=1) == min(5, len(titles))).all()


@pytest.mark.parametrize("name", QUICK)
def test_odd_data_run_from_training_to_recommendations(tmp_path, name):
    check_run(tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in RUNS if name not in QUICK])
def test_all_odd_data_run_from_training_to_recommendations(tmp_path, name):
    check_run(tmp_path, name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exact", "hnsw"])
@pytest.mark.parametrize("loss", OF_LOSS)
@pytest.mark.parametrize("name", ["one item", "everybody has everything"])
def test_odd_data_run_with_every_loss_and_index(tmp_path, name, loss, kind):
    check_run(tmp_path, name, loss, kind)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_run_is_refused_before_the_training_with_what_to_do(tmp_path, name):
    files, settings, message = REFUSED[name]
    workdir = Workdir(tmp_path / "run")
    with pytest.raises(ValueError, match=message):
        run(experiment(tmp_path, files, settings), workdir)
    assert not workdir.log_file.exists()
