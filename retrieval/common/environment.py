"""Facts about the environment of a result: versions, commit and memory of the process."""

from __future__ import annotations

import importlib.metadata
import pathlib
import platform
import resource
import subprocess
import sys

STATUS = pathlib.Path("/proc/self/status")  # of Linux
PACKAGES = ("retrieval", "jax", "jaxlib", "flax", "optax", "numpy", "hnswlib", "pyarrow")


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the packages that decide a result."""
    return {"python": platform.python_version()} | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def peak_rss() -> dict[str, int]:
    """Returns the peak resident memory of this program in bytes, as `peak_rss_bytes`.

    On Linux it is that of the program alone. Other systems are asked for `ru_maxrss`, which may begin with the peak of
    the process that started the program.
    """
    if STATUS.exists():
        (line,) = (line for line in STATUS.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM:"))
        return {"peak_rss_bytes": 1024 * int(line.split()[1])}
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, Linux kilobytes
    return {"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}


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
