"""Facts of how a result came about: versions, commit, device, memory."""

from __future__ import annotations

import importlib.metadata
import pathlib
import platform
import resource
import subprocess
import sys

import jax

PACKAGES = ("retrieval", "jax", "jaxlib", "flax", "optax", "numpy", "hnswlib", "pyarrow")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide a result."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def device() -> str:
    """Returns the kind and number of the devices that JAX runs on."""
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].platform} ({devices[0].device_kind})"


def peak_memory() -> dict[str, int]:
    """Returns the most memory in use so far, in bytes.

    `peak_rss_bytes` is that of the process, as the operating system counts; `peak_memory_bytes` that of the first
    device, where the device tells: a CPU does not.
    """
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    peaks = {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if "peak_bytes_in_use" in (stats := jax.local_devices()[0].memory_stats() or {}):
        peaks["peak_memory_bytes"] = stats["peak_bytes_in_use"]
    return peaks


def git_commit() -> str:
    """Returns the commit of the source tree, with "+changes" if it differs from it; "" outside a checkout."""
    folder = pathlib.Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
