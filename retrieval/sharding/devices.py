"""The devices of this process: their kind, their number and their memory."""

from __future__ import annotations

import os

import jax


def describe_devices() -> str:
    """Returns the number and kind of the devices that JAX computes on, e.g. "1 x cpu (cpu)"."""
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].platform} ({devices[0].device_kind})"


def memory_limit() -> int:
    """Returns the memory in bytes that JAX may use on the first device; a CPU reports none and has the machine's."""
    return _memory_stats().get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def peak_device_memory() -> dict[str, int]:
    """Returns the peak memory in bytes of the first device as `peak_memory_bytes`; a CPU reports none: empty."""
    stats = _memory_stats()
    return {"peak_memory_bytes": stats["peak_bytes_in_use"]} if "peak_bytes_in_use" in stats else {}


def _memory_stats() -> dict[str, int]:
    return jax.local_devices()[0].memory_stats() or {}
