"""The programs, run as a user runs them."""

import json
import subprocess
import sys

import pytest


def program(name, *arguments, check=True):
    result = subprocess.run(
        [sys.executable, "-m", f"experiments.{name}", *arguments], capture_output=True, text=True, timeout=300
    )
    if check:
        assert result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "synthetic"
    program("run", "--config=configs/synthetic.py", f"--workdir={path}")
    return path


def test_the_model_beats_the_most_popular(workdir):
    metrics = json.loads((workdir / "metrics.json").read_text())
    assert metrics["test/excluding_seen/precision_at_10"] > 2 * metrics["popularity/excluding_seen/precision_at_10"]
