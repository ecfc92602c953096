"""A training killed at any moment, and started again, ends as the one that was left alone: to the bit."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
OF_THE_MACHINE = {"seconds", "step_seconds", "examples_per_second", "peak_rss_bytes", "peak_memory_bytes"}


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


def figures(workdir):
    return [{name: value for name, value in record.items() if name not in OF_THE_MACHINE} for record in log(workdir)]


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
    process = start(workdir, arguments)
    while process.poll() is None and len(log(workdir)) < num_records:
        time.sleep(0.001)
    if seconds is None:
        left = set(scratch(workdir))
        while process.poll() is None and left.issuperset(scratch(workdir)):
            pass
    else:
        time.sleep(seconds)
    assert process.poll() is None, process.communicate()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return seconds is None and bool(scratch(workdir))


def check_kills(folder, arguments, kills, min_interrupted_writes):
    """Checks against a run that is left alone; `kills` are shares of its log, and when to kill after it."""
    finish(folder / "whole", arguments)
    length = len(log(folder / "whole"))
    killed = folder / "killed"
    interrupted = [kill(killed, arguments, int(share * length), seconds) for share, seconds in kills]
    assert sum(interrupted) >= min_interrupted_writes
    assert "damaged" not in finish(killed, arguments)
    assert figures(killed) == figures(folder / "whole")
    assert result(killed) == result(folder / "whole")
    assert not scratch(killed)


def test_two_kills_change_nothing(tmp_path):
    arguments = ["--config=configs/synthetic.py", "--config.train.patience=0", "--config.train.epochs=60"]
    check_kills(tmp_path, arguments, [(0.1, None), (0.3, 0.05)], min_interrupted_writes=0)


@pytest.mark.slow
def test_twenty_kills_change_nothing(tmp_path):
    rng = np.random.default_rng(0)
    arguments = ["--config=configs/movielens_100k.py", "--config.train.patience=0", "--config.train.epochs=30"]
    shares = np.sort(rng.uniform(0, 0.9, 20))
    seconds = [None if i % 2 else rng.uniform(0, 0.3) for i in range(20)]
    check_kills(tmp_path, arguments, zip(shares.tolist(), seconds, strict=True), min_interrupted_writes=3)
