"""Sweeps: which settings are tried, what a trial is, and that nothing is lost or counted twice."""

import dataclasses
import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from optuna.trial import TrialState

from experiments.sweep import __main__ as program
from experiments.sweep import search, worker
from experiments.sweep import study as study_lib
from experiments.sweep.folder import SweepFolder
from retrieval.config.schema import Config, Data, Split, Train
from retrieval.config.space import Choice, LogUniform, default_space, with_settings
from retrieval.data.dataset import load
from retrieval.pipeline import phase, search_and_fit

SPACE = {
    "regularization.embedding_l2": LogUniform(0.01, 0.3),
    "model.query.mlp.hidden_sizes": Choice((), (8,)),
    "train.batch_size": LogUniform(512, 2048),
}
CONFIG_FILE = """
from retrieval.config.schema import Config
from retrieval.config.space import LogUniform


def get_config(variant):
    config = Config(name=variant)
    config.data.dataset = "synthetic"
    config.train.epochs = 2
    return config


def get_space(variant):
    assert variant == "tiny"
    return {"regularization.embedding_l2": LogUniform(0.01, 0.3)}
"""
CONFIG = Config(name="tiny", data=Data(dataset="synthetic"), train=Train(batch_size=1024, epochs=2))
DATASET = load(CONFIG.data)


def open_study(folder, warmup=0):
    folder.path.mkdir(exist_ok=True)
    study_lib.mend(folder.journal)
    study = study_lib.open_study(folder.journal, warmup)
    study_lib.begin(study, CONFIG, SPACE)
    return study


def claim(study, most=100, worker=0):
    return study_lib.claim(study, SPACE, most, worker)


def run_trial(folder, study, config=CONFIG):
    trial = claim(study)
    worker.run_trial(study, trial, config, DATASET, folder)
    return study_lib.finished(study, SPACE)[-1]


def test_a_trial_is_the_search_phase_and_looks_at_no_test_part(tmp_path, monkeypatch):
    folder, parts = SweepFolder(tmp_path), DATASET.parts
    blind = dataclasses.replace(DATASET, parts=dataclasses.replace(parts, test=parts.test.take(np.arange(0))))
    study = open_study(folder)
    with monkeypatch.context() as patch:
        patch.delattr(type(parts), "train_and_validation")
        worker.run_trial(study, claim(study), with_settings(CONFIG, {}), blind, folder)
    (trial,) = study_lib.finished(study, SPACE)
    histories = []
    search_and_fit.train(with_settings(CONFIG, {"train.refit": False}), DATASET, tmp_path / "plain", histories.append)
    name = f"validation/{CONFIG.train.metric}"
    assert trial.curve == [(record["epoch"], record[name]) for record in histories[-1]]
    assert trial.state == "complete" and trial.best == max(trial.curve, key=lambda point: point[1])
    assert list(folder.checkpoints.iterdir()) == []


def test_an_interrupted_trial_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    folder = SweepFolder(tmp_path / "cut")
    study = open_study(folder)
    trial = claim(study)
    report = type(trial).report

    def killed_at_one(self, value, epoch):
        report(self, value, epoch)
        if epoch == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(trial), "report", killed_at_one)
        worker.run_trial(study, trial, with_settings(CONFIG, {}), DATASET, folder)
    assert [path.name for path in folder.checkpoints.iterdir()] == ["0"]
    epochs = []
    study = open_study(folder)
    with monkeypatch.context() as patch:
        fit = phase.fit
        patch.setattr(phase, "fit", lambda *a, **k: epochs.append(int(k["state"].step)) or fit(*a, **k))
        resumed = run_trial(folder, study, with_settings(CONFIG, {}))
    whole = SweepFolder(tmp_path / "whole")
    assert resumed.curve == run_trial(whole, open_study(whole), with_settings(CONFIG, {})).curve
    assert epochs[0] > 0 and resumed.number == 1


def test_a_trial_below_the_median_of_the_others_is_given_up(tmp_path):
    folder = SweepFolder(tmp_path)
    study = open_study(folder, warmup=1)
    for _ in range(study_lib.NUM_UNPRUNED):
        trial = claim(study)
        for epoch in range(3):
            trial.report(0.9, epoch)
        study.tell(trial, 0.9)
    trial = run_trial(folder, study, with_settings(CONFIG, {}))
    assert trial.state == "pruned" and [epoch for epoch, _ in trial.curve] == [0, 1]
    assert list(folder.checkpoints.iterdir()) == []


def test_a_trial_that_diverges_counts_as_a_bad_one(tmp_path):
    folder = SweepFolder(tmp_path)
    study = open_study(folder)
    trial = run_trial(folder, study, with_settings(CONFIG, {"optimizer.name": "sgd", "optimizer.learning_rate": 1e30}))
    assert trial.state == "diverged" and trial.curve[0][0] == 0
    assert study.get_trials()[0].state == TrialState.PRUNED


def sweep(folder, trials=2, space=SPACE, config=CONFIG, processes=1):
    return search.sweep(config, space, folder, trials, processes)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = SweepFolder(tmp_path_factory.mktemp("swept"))
    return folder, sweep(folder)


def test_a_sweep_writes_the_best_as_flags_and_all_trials(swept):
    folder, ranked = swept
    best = json.loads(folder.best_file.read_text())
    assert [trial.number for trial in ranked] in ([1, 2], [2, 1]) and ranked[0].best[1] >= ranked[1].best[1]
    assert best["number"] == ranked[0].number and best["value"] == ranked[0].best[1]
    assert best["flags"][0] == f"--config.regularization.embedding_l2={best['settings']['regularization.embedding_l2']}"
    records = [json.loads(line) for line in folder.trials_file.read_text().splitlines()]
    assert [record["number"] for record in records] == [1, 2]
    page = folder.report_file.read_text()
    assert best["flags"][0] in page and "slice_regularization_embedding_l2" in page
    assert (folder.report_plots / "progress.png").stat().st_size > 1000
    assert list(folder.checkpoints.iterdir()) == []


def test_a_finished_sweep_trains_nothing(swept, monkeypatch):
    folder, ranked = swept
    monkeypatch.setattr(search, "_workers", None)
    assert sweep(folder) == ranked and sweep(folder, trials=1) == ranked


def test_a_sweep_of_another_config_space_or_data_is_refused(swept):
    folder, _ = swept
    with pytest.raises(ValueError, match="(?s)train.epochs: 2, 3.*use another --workdir"):
        sweep(folder, config=with_settings(CONFIG, {"train.epochs": 3}))
    with pytest.raises(ValueError, match="space of train.batch_size: .'LogUniform', 512, 2048., none"):
        sweep(folder, space={field: SPACE[field] for field in list(SPACE)[:2]})
    with pytest.raises(ValueError, match="other data"):
        folder.begin(CONFIG, SPACE, load(Data(dataset="synthetic", split=Split(seed=7))))


def test_a_folder_in_use_or_of_something_else_is_refused(swept, tmp_path):
    folder, _ = swept
    with folder.claimed(), pytest.raises(ValueError, match="this process sweeps in"):
        sweep(SweepFolder(folder.path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="holds no sweep, but"):
        sweep(SweepFolder(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"data.split.validation_fraction": 0.0}, "needs a validation part"),
        ({"train.evaluate_every": 0}, "set train.evaluate_every"),
    ],
)
def test_without_a_validation_part_there_is_nothing_to_compare(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        sweep(SweepFolder(tmp_path), config=with_settings(CONFIG, changes))


@pytest.mark.slow
def test_settings_that_the_config_cannot_take_stop_the_sweep(tmp_path, capfd):
    with pytest.raises(ValueError, match="optimizer.name must be .*did you mean 'adagrad'"):  # before the first trial
        sweep(SweepFolder(tmp_path / "name"), space={"optimizer.name": Choice("adagrad", "adagrat")}, trials=9)
    with pytest.raises(ValueError, match="ended with status 1"):  # what the data lack ends the worker
        sweep(SweepFolder(tmp_path / "argument"), space={"negatives.dislikes": Choice(0, 5)}, trials=9)
    assert "dislike" in capfd.readouterr().err


@pytest.mark.slow
def test_a_killed_sweep_in_two_processes_goes_on_to_as_many_trials(tmp_path):
    (tmp_path / "tiny.py").write_text(CONFIG_FILE)
    folder = SweepFolder(tmp_path / "sweep")
    program_ = [sys.executable, "-m", "experiments.sweep", f"--config={tmp_path / 'tiny.py'}:tiny"]
    command = [*program_, f"--workdir={folder.path}", "--processes=2"]
    with subprocess.Popen([*command, "--trials=1000"], stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline().startswith("trial ")
        first.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while _workers_of(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _workers_of(folder)
    study_lib.mend(folder.journal)
    _, space = folder.read()
    ended = len(study_lib.finished(study_lib.open_study(folder.journal, 0), space))
    done = subprocess.run([*command, f"--trials={ended + 3}"], capture_output=True, text=True, check=True)
    assert f"has {ended} trials already" in done.stdout
    records = [json.loads(line) for line in folder.trials_file.read_text().splitlines()]
    assert [record["number"] for record in records] == list(range(1, ended + 4))
    more = subprocess.run([*command[:-1], f"--trials={ended + 4}"], capture_output=True, text=True, check=True)
    assert f"has {ended + 3} trials already" in more.stdout
    assert len(folder.trials_file.read_text().splitlines()) == ended + 4


def _workers_of(folder):
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if "experiments.sweep.worker" in line and str(folder.path) in line]


def test_the_space_is_that_of_the_config_file_or_the_default_and_may_be_narrowed():
    assert program.space_of(CONFIG, None, None) == default_space(CONFIG)
    assert program.space_of(CONFIG, SPACE, []) == SPACE
    assert program.space_of(CONFIG, SPACE, ["train.batch_size"]) == {"train.batch_size": SPACE["train.batch_size"]}
    with pytest.raises(ValueError, match="did you mean 'train.batch_size'"):
        program.space_of(CONFIG, SPACE, ["train.batch_sise"])


def test_without_optuna_what_to_install_is_said(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("experiments.sweep.s")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("search", "study"):
        monkeypatch.delattr(f"experiments.sweep.{name}")
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match="pip install -e '.\\[sweep\\]'"):
        program.main()
