"""What a run leaves behind beside the model: metrics, and a manifest of how they came about."""

from __future__ import annotations

import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any

import jax

PACKAGES = ("retrieval", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "hnswlib", "pyarrow")


def write_atomically(path: pathlib.Path, text: str) -> None:
    """Writes a text file so that a reader, or a crash, sees the old one or the new one whole."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with scratch.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(scratch, path)


def write_json(path: pathlib.Path, values: Mapping[str, Any]) -> None:
    """Writes a mapping as JSON, atomically."""
    write_atomically(path, json.dumps(values, indent=2) + "\n")


def write_jsonl(path: pathlib.Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes one JSON object a line, atomically."""
    write_atomically(path, "".join(json.dumps(record) + "\n" for record in records))


def append_jsonl(path: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Appends one JSON object as a line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


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
