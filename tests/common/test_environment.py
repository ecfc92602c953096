"""Facts about the environment are right on every machine."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

from retrieval.common import environment


def test_a_large_array_raises_the_peak_of_the_process():
    size = 64 * 2**20
    before = environment.peak_rss()["peak_rss_bytes"]
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # another count of the same, in kB
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        assert before == pytest.approx(1024 * int(line.split()[1]), rel=0.05)
    held = [np.ones(size, np.uint8)]
    while environment.peak_rss()["peak_rss_bytes"] < before + size and len(held) < 200:  # the peak may lie far above
        held.append(np.ones(size, np.uint8))
    assert environment.peak_rss()["peak_rss_bytes"] >= before + size


def test_every_version_is_known():
    assert "not installed" not in environment.versions().values()


@pytest.mark.skipif(not environment.STATUS.exists(), reason="only Linux tells the peak of a program alone")
def test_the_peak_of_a_program_is_its_own_and_not_that_of_a_large_process_that_started_it():
    child = "from retrieval.common.environment import peak_rss; print(peak_rss()['peak_rss_bytes'])"
    parent = f"""
import subprocess, sys
held = bytearray(b"x") * (300 * 2**20)
print(subprocess.run([sys.executable, "-c", {child!r}], capture_output=True, text=True, check=True).stdout)
"""
    started = subprocess.run([sys.executable, "-c", parent], capture_output=True, text=True, check=True)
    assert int(started.stdout) < 200 * 2**20
