"""Checkpoints of one training phase: the last two states and the best one, with the logged history.

A checkpoint is one file: a line with the length and the SHA-256 of the rest, a line of JSON, and the raw arrays of the
state in the order of its leaves and the byte order of the machine.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import logging
import math
import pathlib
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from retrieval.common.storage import sync_folder, write_chunks
from retrieval.training.step import TrainState

LOG = logging.getLogger(__name__)
SUFFIX = ".checkpoint"
FIRST_LINE = "retrieval checkpoint 1: {} bytes, sha256 {}\n"  # length and digest of the bytes after this line
PATTERN = re.compile(FIRST_LINE.format("([0-9]+)", "([0-9a-f]{64})").encode())


class Checkpoint(NamedTuple):
    """A restored checkpoint.

    Attributes:
      epoch: number of epochs trained.
      state: the training state after them.
      history: the logged record of each epoch so far, in order.
    """

    epoch: int
    state: TrainState
    history: list[dict[str, Any]]


class _DamagedError(Exception):
    """The content of a file differs from the checkpoint that was written; the message says how."""


class _Write(NamedTuple):
    epoch: int
    header: dict[str, Any]
    leaves: list[np.ndarray]


class Checkpoints:
    """Checkpoints of one training phase in a folder, one file each, written by a background thread.

    Three files are kept: the last, to resume from; the one before it, in case the last is damaged; and the one with the
    highest score, the first of equal ones. A file appears under its name only when it is complete and synced to disk.
    If the disk is slower than training, states between the best and the last are skipped, so that at most two states
    wait in memory. The best state is written before any later one, so that every checkpoint on disk has its best
    beside it.

    Each file holds the `fingerprint` of its training, and is not restored into a training with another one. A training
    resumes from the result of `last`, or starts anew; the next write removes checkpoints of later epochs.

    Use it as a context manager: leaving it waits for pending writes.
    """

    def __init__(self, folder: pathlib.Path, fingerprint: str, earlier: re.Pattern[str] | None = None):
        """Opens the checkpoints in a folder, which the first write creates.

        Args:
          folder: folder of the files.
          fingerprint: digest of everything that the trained state depends on, such as config, vocabulary and data.
          earlier: form of the fingerprints of earlier versions, which cannot be compared: checkpoints with such a one
            are restored with a warning. None: there is no such form.
        """
        self._folder, self._fingerprint, self._earlier = folder, fingerprint, earlier
        self._best: dict[str, Any] = {"epoch": -1, "score": -math.inf}
        self._written: int | None = None  # epoch of the last write or restore
        self._lock, self._pending = threading.Lock(), []  # at most the best and the last, in this order
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "checkpoints")
        self._writes: list[concurrent.futures.Future] = []

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error) -> None:
        self._thread.shutdown(wait=True)
        self._raise_failures()

    def save(self, epoch: int, state: TrainState, history: Sequence[Mapping[str, Any]], score: float) -> None:
        """Copies the state and writes it in the background.

        Args:
          epoch: number of epochs trained.
          state: the training state after them.
          history: the logged record of each epoch so far, in order; must be JSON.
          score: the higher, the better; NaN is worse than every number.

        Raises:
          OSError: an earlier write failed.
        """
        self._raise_failures()
        score = -math.inf if math.isnan(score) else float(score)
        if self._best["epoch"] < 0 or score > self._best["score"]:
            self._best = {"epoch": epoch, "score": score}
        paths, leaves = zip(*jax.tree_util.tree_leaves_with_path(state), strict=True)
        host = [np.array(leaf) for leaf in leaves]  # a copy: the caller may donate the buffers to the next step
        header = {
            "fingerprint": self._fingerprint,
            "epoch": epoch,
            "best": self._best,
            "leaves": [_description(path, leaf) for path, leaf in zip(paths, host, strict=True)],
            "history": [dict(record) for record in history],
        }
        with self._lock:
            self._pending = [write for write in self._pending if write.epoch == self._best["epoch"]]
            self._pending.append(_Write(epoch, header, host))
        self._writes.append(self._thread.submit(self._write_next))

    def last(self, template: TrainState, at_most: int | None = None) -> Checkpoint | None:
        """Restores the last undamaged checkpoint; None if the folder has none.

        Damaged files are logged as warnings and skipped.

        Args:
          template: a state of the same model and optimizer, which gives structure, shapes and dtypes.
          at_most: the highest epoch to consider; None: any.

        Raises:
          ValueError: the checkpoint has another fingerprint, or other leaves than the template.
        """
        damaged = False
        for epoch, path in self._files(at_most):
            try:
                header, leaves = _read(path)
            except _DamagedError as error:
                LOG.warning("the checkpoint %s is damaged and not used: %s", path, error)
                damaged = True
                continue
            self._check(path, header, template)
            if damaged:
                LOG.warning("training resumes from the checkpoint before it, %s", path)
            self._best, self._written = header["best"], epoch
            state = jax.tree.unflatten(jax.tree.structure(template), map(jnp.array, leaves))
            return Checkpoint(epoch, state, header["history"])
        if damaged:
            LOG.warning("no undamaged checkpoint in %s to resume from: training starts anew", self._folder)
        return None

    def _files(self, at_most: int | None) -> Iterator[tuple[int, pathlib.Path]]:
        epochs = {int(path.stem): path for path in self._folder.glob("*" + SUFFIX) if path.stem.isdecimal()}
        return ((epoch, epochs[epoch]) for epoch in sorted(epochs, reverse=True) if at_most is None or epoch <= at_most)

    def _check(self, path: pathlib.Path, header: dict[str, Any], template: TrainState) -> None:
        found = header["fingerprint"]
        if self._earlier is not None and self._earlier.fullmatch(found):
            LOG.warning("%s is of an earlier version: that its config and data are those of now is not checked", path)
        elif found != self._fingerprint:
            raise ValueError(
                f"the checkpoint {path} was trained with another config, vocabulary or data "
                f"(fingerprint {found[:20]}, expected {self._fingerprint[:20]}); use another workdir"
            )
        expected = [_description(*leaf) for leaf in jax.tree_util.tree_leaves_with_path(template)]
        if header["leaves"] != expected:
            unexpected = [leaf for leaf in header["leaves"] if leaf not in expected]
            missing = [leaf for leaf in expected if leaf not in header["leaves"]]
            raise ValueError(
                f"the checkpoint {path} was written by other code of the model or the optimizer: it holds {unexpected} "
                f"where {missing} is expected; use another workdir"
            )

    def _write_next(self) -> None:
        with self._lock:
            if not self._pending:  # `save` has dropped or an earlier call has written it
                return
            write = self._pending.pop(0)
        self._folder.mkdir(parents=True, exist_ok=True)
        body = [(json.dumps(write.header) + "\n").encode(), *map(_bytes, write.leaves)]
        digest = hashlib.sha256()
        for chunk in body:
            digest.update(chunk)
        first_line = FIRST_LINE.format(sum(map(len, body)), digest.hexdigest()).encode()
        write_chunks(self._folder / f"{write.epoch:06d}{SUFFIX}", [first_line, *body])
        sync_folder(self._folder)
        self._remove_all_but({write.epoch, write.header["best"]["epoch"], self._written})
        self._written = write.epoch

    def _remove_all_but(self, epochs: set[int | None]) -> None:
        kept = {f"{epoch:06d}{SUFFIX}" for epoch in epochs if epoch is not None}
        for path in self._folder.glob(f"*{SUFFIX}*"):  # also temporary files of a killed process
            if path.name not in kept:
                path.unlink()

    def _raise_failures(self) -> None:
        done = [write for write in self._writes if write.done()]
        self._writes = [write for write in self._writes if write not in done]
        for write in done:
            write.result()


def _read(path: pathlib.Path) -> tuple[dict[str, Any], list[np.ndarray]]:
    """Reads and verifies a checkpoint; returns its header and its arrays. O(bytes) time.

    Raises:
      _DamagedError: first line, length or digest do not match the content.
    """
    data = path.read_bytes()
    match = PATTERN.match(data)
    if match is None:
        raise _DamagedError(f"its first line is not that of a checkpoint ({len(data)} bytes)")
    body = memoryview(data)[match.end() :]
    if len(body) != int(match[1]):
        raise _DamagedError(f"it has {len(body)} bytes after its first line, not {int(match[1])}")
    digest = hashlib.sha256(body).hexdigest()
    if digest != match[2].decode():
        raise _DamagedError(f"its SHA-256 is {digest[:12]}..., not {match[2].decode()[:12]}...")
    offset = data.index(b"\n", match.end()) + 1
    header = json.loads(data[match.end() : offset])
    leaves = []
    for leaf in header["leaves"]:
        leaves.append(np.ndarray(leaf["shape"], np.dtype(leaf["dtype"]), data, offset))
        offset += leaves[-1].nbytes
    return header, leaves


def _description(path: Sequence[Any], leaf: Any) -> dict[str, Any]:
    return {"path": jax.tree_util.keystr(path), "dtype": np.dtype(leaf.dtype).name, "shape": list(leaf.shape)}


def _bytes(leaf: np.ndarray) -> memoryview:
    return np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data
