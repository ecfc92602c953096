"""The facts of a run are told, whatever the machine."""

import pathlib
import types

import jax
import numpy as np
import pytest

from retrieval.common import environment


def test_a_large_array_raises_the_peak_of_the_process():
    size = 64 * 2**20
    before = environment.peak_memory()["peak_rss_bytes"]
    status = pathlib.Path("/proc/self/status")
    if status.exists():  # another count of the same, in kB
        (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        assert before == pytest.approx(1024 * int(line.split()[1]), rel=0.05)
    held = [np.ones(size, np.uint8)]
    while environment.peak_memory()["peak_rss_bytes"] < before + size and len(held) < 200:  # the peak may lie far above
        held.append(np.ones(size, np.uint8))
    assert environment.peak_memory()["peak_rss_bytes"] >= before + size


@pytest.mark.parametrize(
    ("stats", "told"), [(None, {}), ({}, {}), ({"peak_bytes_in_use": 7}, {"peak_memory_bytes": 7})]
)
def test_the_peak_of_the_device_is_told_where_it_is_known(monkeypatch, stats, told):
    monkeypatch.setattr(jax, "local_devices", lambda: [types.SimpleNamespace(memory_stats=lambda: stats)])
    peaks = environment.peak_memory()
    assert peaks.pop("peak_rss_bytes") > 0
    assert peaks == told


def test_every_version_is_known():
    assert "not installed" not in environment.versions().values()
