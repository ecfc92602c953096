"""Downloads, checked against a pinned SHA-256 before they enter the cache."""

from __future__ import annotations

import hashlib
import http.client
import os
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from retrieval.common import disk_errors, storage
from retrieval.common.errors import DataError

Progress = Callable[[int, int], None]  # bytes done, bytes in all

BLOCK = 1 << 20  # bytes
TIMEOUT = 10  # seconds without an answer
PIP = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--disable-pip-version-check"]
NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    ConnectionError,
    TimeoutError,
)


class Unreachable(DataError):
    """A source does not answer."""


def check(path: Path, sha256: str) -> None:
    """Checks a file in the cache against its SHA-256.

    Raises:
      DataError: the SHA-256 differs.
    """
    received = storage.sha256(path)
    if received != sha256:
        raise DataError(f"{path} is damaged: expected SHA-256 {sha256}, got {received}; delete it")


def download(url: str, path: Path, size: int, sha256: str, progress: Progress | None = None) -> None:
    """Downloads `size` bytes to `path`, which is created only after they are complete and checked.

    Args:
      url: source.
      path: destination; its folder is created if needed.
      size: expected number of bytes.
      sha256: expected SHA-256, hexadecimal.
      progress: called with the bytes received and `size` after each block.

    Raises:
      Unreachable: the server does not answer.
      DataError: the received bytes are not the expected ones, or fewer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        received, digest = _receive(url, part, size, progress)
        if digest != sha256:
            raise DataError(
                f"{url} sent {received} bytes with SHA-256 {digest}, expected {size} bytes with {sha256}; "
                f"try again, or download it yourself and pass the path of your copy",
                needed="path",
            )
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _receive(url: str, part: Path, size: int, progress: Progress | None) -> tuple[int, str]:
    """Writes the answer of `url` to `part`, perhaps incomplete; returns the number of bytes and their SHA-256."""
    received, digest = 0, hashlib.sha256()
    with disk_errors.writing(part), open(part, "wb") as file:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
                while received <= size and (block := response.read(BLOCK)):
                    file.write(block)
                    digest.update(block)
                    received += len(block)
                    if progress is not None:
                        progress(received, size)
        except NETWORK_ERRORS as error:
            if not received:
                raise Unreachable(f"{url} cannot be reached ({error})") from error
    return received, digest.hexdigest()


def download_wheel(requirement: str, path: Path, sha256: str) -> None:
    """Downloads a wheel with pip to `path`, which is created only after the wheel is complete and checked.

    Args:
      requirement: the package and its version, "name==1.2.3".
      path: destination; its folder is created if needed.
      sha256: expected SHA-256 of the wheel, hexadecimal.

    Raises:
      Unreachable: pip finds no such wheel.
      DataError: the SHA-256 differs.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        options = ["--timeout", str(TIMEOUT), "--retries", "1", "-d", folder]
        pip = subprocess.run([*PIP, *options, requirement], capture_output=True, text=True)
        wheels = list(Path(folder).glob("*.whl"))
        if pip.returncode or len(wheels) != 1:
            reason = (pip.stderr.strip().splitlines() or [f"{len(wheels)} wheels came"])[-1]
            raise Unreachable(f"pip cannot download {requirement} ({reason})")
        digest = storage.sha256(wheels[0])
        if digest != sha256:
            raise DataError(
                f"pip gave a {requirement} with SHA-256 {digest}, expected {sha256}; "
                f"check where your pip downloads from, or pass the path of a copy of the data",
                needed="path",
            )
        os.replace(wheels[0], path)
