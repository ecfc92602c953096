"""Which settings a sweep tries next, and that no interruption or race loses or doubles a trial."""

import dataclasses
import os

import pytest
from optuna.trial import TrialState

from experiments.sweep import study as study_lib
from experiments.sweep.folder import SweepFolder
from retrieval.config.schema import Config, Train
from retrieval.config.space import Choice, LogUniform, Uniform, with_settings

SPACE = {
    "regularization.embedding_l2": LogUniform(0.01, 0.3),
    "model.query.mlp.hidden_sizes": Choice((), (8,)),
    "train.batch_size": LogUniform(512, 2048),
}
CONFIG = Config(train=Train(batch_size=1024))


def open_study(folder, warmup=0):
    folder.path.mkdir(exist_ok=True)
    study_lib.mend(folder.journal)
    study = study_lib.open_study(folder.journal, warmup)
    study_lib.begin(study, CONFIG, SPACE)
    return study


def score(settings):
    return 1 - abs(settings["regularization.embedding_l2"] - 0.1) + 0.01 * len(settings["model.query.mlp.hidden_sizes"])


def pretend(study, trial, state=None):
    """Ends a trial without a training."""
    value = score(study_lib.settings_of(trial.params, SPACE))
    trial.report(value, 0)
    study.tell(trial, None if state else value, state=state)


def claim(study, most=100, worker=0):
    return study_lib.claim(study, SPACE, most, worker)


def settings(study):
    return [trial.settings for trial in study_lib.finished(study, SPACE)]


def test_the_first_trial_is_the_config_and_the_others_lie_in_the_space(tmp_path):
    study = open_study(SweepFolder(tmp_path))
    while trial := claim(study, most=25):
        pretend(study, trial)
    first, *others = settings(study)
    assert with_settings(CONFIG, first) == CONFIG
    assert len(others) == 24 and len({repr(tried) for tried in others}) > 20
    for tried in others:
        penalty = tried["regularization.embedding_l2"]
        assert 0.01 <= penalty <= 0.3 and penalty == float(f"{penalty:.4g}")
        assert type(tried["train.batch_size"]) is int and 512 <= tried["train.batch_size"] <= 2048
        assert tried["model.query.mlp.hidden_sizes"] in ((), (8,))


def test_what_the_space_does_not_hold_of_the_config_is_drawn(tmp_path):
    config = with_settings(CONFIG, {"regularization.embedding_l2": 0.9, "model.query.mlp.hidden_sizes": (64,)})
    study = study_lib.open_study(tmp_path / "journal", 0)
    study_lib.begin(study, config, SPACE)
    drawn = study_lib.settings_of(claim(study).params, SPACE)
    assert drawn["train.batch_size"] == 1024
    assert drawn["regularization.embedding_l2"] <= 0.3 and drawn["model.query.mlp.hidden_sizes"] in ((), (8,))


def test_later_trials_lie_near_the_best(tmp_path):
    study = open_study(SweepFolder(tmp_path))
    while trial := claim(study, most=40):
        pretend(study, trial)
    scores = [score(tried) for tried in settings(study)]
    assert sum(scores[25:]) / 15 > sum(scores[1:11]) / 10


def test_numbers_are_rounded_within_their_bounds():
    space = {"loss.temperature": Uniform(0.123456, 0.123458), "train.batch_size": Uniform(1, 10**9)}
    at = study_lib.settings_of({"loss.temperature": 0.123457, "train.batch_size": 123456789}, space)
    assert at == {"loss.temperature": 0.123458, "train.batch_size": 123456789}


@pytest.mark.parametrize("at", [1, 4, 13])
def test_an_interrupted_sweep_tries_what_an_uninterrupted_one_tries(tmp_path, at):
    whole = open_study(SweepFolder(tmp_path / "whole"))
    while trial := claim(whole, most=16):
        pretend(whole, trial)
    folder = SweepFolder(tmp_path / "cut")
    study = open_study(folder)
    for _ in range(at):
        pretend(study, claim(study))
    claim(study)  # and is killed
    study = open_study(folder)
    most = study_lib.limit(study, 16)
    again = claim(study, most)
    assert study_lib.origin(again) == at
    pretend(study, again)
    while trial := claim(study, most):
        pretend(study, trial)
    assert settings(study) == settings(whole)


def test_a_trial_killed_before_it_had_settings_is_drawn_anew(tmp_path):
    folder = SweepFolder(tmp_path)
    study = open_study(folder)
    study.ask()  # takes the config's settings
    study.ask()
    study = open_study(folder)
    most = study_lib.limit(study, 3)
    while trial := claim(study, most):
        pretend(study, trial)
    first, *others = settings(study)
    assert with_settings(CONFIG, first) == CONFIG and len(others) == 2


def test_processes_that_claim_at_once_begin_no_trial_too_many(tmp_path, monkeypatch):
    folder = SweepFolder(tmp_path)
    first, second = open_study(folder), study_lib.open_study(folder.journal, 0)
    pretend(first, claim(first))
    stale = second.get_trials()
    assert claim(first, most=2, worker=0) is not None
    with monkeypatch.context() as patch:
        patch.setattr(second, "get_trials", lambda **_: stale)
        assert claim(second, most=2, worker=1) is None
    assert sum(trial.state != TrialState.FAIL for trial in first.get_trials()) == 2


def test_processes_that_claim_at_once_get_different_settings(tmp_path):
    folder = SweepFolder(tmp_path)
    first, second = open_study(folder), study_lib.open_study(folder.journal, 0)
    trials = [claim(first, worker=0), claim(second, worker=1), claim(first, worker=0), claim(second, worker=1)]
    assert len({repr(trial.params) for trial in trials}) == 4


def test_half_a_line_and_a_lock_of_a_crash_are_removed(tmp_path):
    folder = SweepFolder(tmp_path)
    pretend(study := open_study(folder), claim(study))
    with folder.journal.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    os.symlink(folder.journal, tmp_path / "journal.jsonl.lock")
    study = open_study(folder)
    pretend(study, claim(study))
    assert len(settings(study_lib.open_study(folder.journal, 0))) == 2


@pytest.mark.parametrize("state", [None, TrialState.PRUNED])
def test_settings_that_were_tried_are_not_trained_again(tmp_path, state):
    study = open_study(SweepFolder(tmp_path))
    trial = claim(study)
    assert not study_lib.repeat(study, trial, SPACE)
    pretend(study, trial, state)
    study.enqueue_trial(trial.params)
    assert study_lib.repeat(study, claim(study), SPACE)
    first, second = study_lib.finished(study, SPACE)
    assert dataclasses.replace(second, number=1, seconds=first.seconds) == first
