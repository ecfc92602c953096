"""The manifest of a folder: facts, and the listed files with size and SHA-256, under a SHA-256 of the whole."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from retrieval.common.storage import finite, read_json, sha256, write_json
from retrieval.common.verified_folder import ListedFile

HASH = "sha256"  # the entry with the hash of all others
MOST_BYTES = 1 << 24


def write_manifest(path: pathlib.Path, content: Mapping[str, Any]) -> None:
    """Writes a mapping as JSON, atomically, with the SHA-256 of its content before it."""
    kept = json.loads(json.dumps(finite(content)))  # the hash is that of the values which JSON keeps
    write_json(path, {HASH: digest(kept), **kept})


def read_manifest(path: pathlib.Path) -> dict[str, Any]:
    """Returns the content that `write_manifest` wrote, without its hash.

    One that has no hash, as earlier versions wrote it, is returned unverified.

    Raises:
      ValueError: the file is too large, no JSON object, nested too deeply, or its content has another SHA-256.
      OSError: it cannot be read.
    """
    content = read_object(path)
    return check_hash(content) if HASH in content else content


def read_object(path: pathlib.Path) -> dict[str, Any]:
    """Returns the content of a manifest, unverified; raises as `read_manifest`."""
    try:
        content = read_json(path, MOST_BYTES)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(content, dict):
        raise ValueError(f"expected an object, got {content!r:.80}")
    return content


def check_hash(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of a manifest without its hash, verified.

    Raises:
      ValueError: it has another SHA-256 than it says, or says none.
    """
    others = {name: value for name, value in content.items() if name != HASH}
    if digest(others) != content.get(HASH):
        raise ValueError("its content has another SHA-256 than it says")
    return others


def digest(content: Mapping[str, Any]) -> str:
    """Returns the SHA-256 of what JSON holds, hexadecimal, however it is laid out."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def entry_of(path: pathlib.Path) -> dict[str, Any]:
    """Returns the entry of a file as it is on disk; O(size) time."""
    return {"size": path.stat().st_size, HASH: sha256(path)}


def entry_of_chunks(chunks: Iterable[bytes | memoryview]) -> dict[str, Any]:
    """Returns the entry of a file that will hold these bytes."""
    size, found = 0, hashlib.sha256()
    for chunk in chunks:
        size += memoryview(chunk).nbytes
        found.update(chunk)
    return {"size": size, HASH: found.hexdigest()}


def listed_file(name: str, entry: Any) -> ListedFile:
    """Returns the entry of a file.

    Raises:
      ValueError, KeyError, TypeError: it is none.
    """
    if type(entry["size"]) is not int or type(entry[HASH]) is not str:
        raise ValueError(f"size and SHA-256 of {name!r} are {entry}")
    return ListedFile(entry["size"], entry[HASH])
