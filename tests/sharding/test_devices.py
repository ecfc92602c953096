"""Facts about devices, for devices that report their memory and for those that do not."""

import types

import jax
import pytest

from retrieval.sharding import devices


def report(monkeypatch, stats):
    monkeypatch.setattr(jax, "local_devices", lambda: [types.SimpleNamespace(memory_stats=lambda: stats)])


@pytest.mark.parametrize(
    ("stats", "peak"), [(None, {}), ({}, {}), ({"peak_bytes_in_use": 7}, {"peak_memory_bytes": 7})]
)
def test_the_peak_is_that_which_the_device_reports(monkeypatch, stats, peak):
    report(monkeypatch, stats)
    assert devices.peak_device_memory() == peak


def test_the_limit_is_that_of_the_device_or_of_the_machine(monkeypatch):
    assert devices.memory_limit() > 1 << 28
    report(monkeypatch, {"bytes_limit": 12345})
    assert devices.memory_limit() == 12345


def test_the_description_has_number_and_kind():
    assert devices.describe_devices() == f"{jax.device_count()} x cpu (cpu)"
