"""Facts about the environment are right on every machine."""

import pathlib

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
