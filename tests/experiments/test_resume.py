"""A training killed at any moment, and started again, ends as the one that was left alone: to the bit."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[2]
SYNTHETIC = ["--config=configs/synthetic.py", "--config.train.patience=0", "--config.train.epochs=60"]
MACHINE_DEPENDENT = {"seconds", "step_seconds", "examples_per_second", "peak_rss_bytes", "peak_memory_bytes"}


def start(workdir, arguments):
    command = [sys.executable, "-m", "experiments.train", f"--workdir={workdir}", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def finish(workdir, arguments):
    _, errors = start(workdir, arguments).communicate(timeout=600)
    assert "Traceback" not in errors and (workdir / "checkpoints/choice.json").exists(), errors
    return errors


def log(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines() if (workdir / "metrics.jsonl").exists() else []
    return [json.loads(line) for line in lines]


def logged_metrics(workdir):
    return [{name: value for name, value in record.items() if name not in MACHINE_DEPENDENT} for record in log(workdir)]


def result(workdir):
    """The choice, and the arrays of the state that is chosen, as they lie on disk."""
    choice = json.loads((workdir / "checkpoints/choice.json").read_text())
    content = (workdir / f"checkpoints/{choice['phase']}/{choice['epoch']:06d}.checkpoint").read_bytes()
    return choice, content.split(b"\n", 2)[2]


def scratch(workdir):
    """The files of checkpoints that are half written."""
    return list((workdir / "checkpoints").glob("*/.*"))


def kill(workdir, arguments, num_records, seconds):
    """Starts the training and kills it; returns whether that left a checkpoint half written.

    It is killed once the log has `num_records` records: `seconds` later, or, if None, as a checkpoint is being written.
    """
    process, left = start(workdir, arguments), set(scratch(workdir))
    while process.poll() is None and len(log(workdir)) < num_records:
        time.sleep(0.001)
    if seconds is None:
        while process.poll() is None and left.issuperset(scratch(workdir)):
            pass
    else:
        time.sleep(seconds)
    assert process.poll() is None, process.communicate()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return not left.issuperset(scratch(workdir))


def check_kills(whole, killed, arguments, kills, min_interrupted_writes):
    """Checks against a run that was left alone; `kills` are shares of its log, and when to kill after it."""
    length = len(log(whole))
    interrupted = [kill(killed, arguments, int(share * length), seconds) for share, seconds in kills]
    assert sum(interrupted) >= min_interrupted_writes
    assert "damaged" not in finish(killed, arguments)
    assert logged_metrics(killed) == logged_metrics(whole)
    assert result(killed) == result(whole)
    assert not scratch(killed)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    finish(workdir, SYNTHETIC)
    return workdir


@pytest.mark.slow
def test_a_damaged_checkpoint_is_named_to_the_user_and_changes_nothing(whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / "checkpoints/choice.json").unlink()  # as if the run had been interrupted
    shutil.rmtree(tmp_path / "checkpoints/final")
    last = max((tmp_path / "checkpoints/search").iterdir())
    last.write_bytes(last.read_bytes()[:-1])
    errors = finish(tmp_path, SYNTHETIC)
    assert f"{last} is damaged and not used" in errors
    assert "training resumes from the checkpoint before it" in errors
    assert logged_metrics(tmp_path) == logged_metrics(whole)
    assert result(tmp_path) == result(whole)


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path):
    rng = np.random.default_rng(0)
    arguments = ["--config=configs/movielens_100k.py", "--config.train.patience=0", "--config.train.epochs=30"]
    shares = np.sort(rng.uniform(0, 0.9, 20)).tolist()
    kills = [(share, None if i % 2 else rng.uniform(0, 0.3)) for i, share in enumerate(shares)]
    finish(tmp_path / "whole", arguments)
    check_kills(tmp_path / "whole", tmp_path / "killed", arguments, kills, min_interrupted_writes=3)


def interrupt(workdir, arguments, line):
    """Starts the training, presses Ctrl-C once `line` is printed, and returns the exit status and what is printed."""
    command = [sys.executable, "-u", "-m", "experiments.train", f"--workdir={workdir}", *arguments]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    printed = []
    while not printed or not printed[-1].startswith(line):
        printed.append(process.stdout.readline())
        assert printed[-1], process.stderr.read()
    process.send_signal(signal.SIGINT)
    others, errors = process.communicate(timeout=120)
    return process.returncode, [*map(str.rstrip, printed), *others.splitlines()], errors


@pytest.mark.slow
def test_ctrl_c_tells_the_epoch_and_the_same_command_where_it_resumes(tmp_path):
    arguments = [argument.replace("=60", "=4000") for argument in SYNTHETIC]
    status, printed, errors = interrupt(tmp_path / "run", arguments, "search epoch   3")
    match = re.fullmatch(r"interrupted after (search epoch \d+); the same command goes on from there", printed[-1])
    assert status == 130 and match and errors == "", (status, printed[-1], errors)
    status, again, errors = interrupt(tmp_path / "run", arguments, "resumes after search epoch")
    assert status == 130 and errors == "" and int(log(tmp_path / "run")[-1]["epoch"]) >= 3
