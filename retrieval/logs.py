"""Facts of how a result came about: versions, commit, device."""

from __future__ import annotations

import importlib.metadata
import pathlib
import platform
import subprocess

import jax

PACKAGES = ("retrieval", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "hnswlib", "pyarrow")


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
