"""Checkpoints of training: the last and the best state of one phase, with its history."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from retrieval.train import TrainState


class Checkpoint(NamedTuple):
    """What is restored.

    Attributes:
      epoch: epochs trained.
      state: the training state after them.
      history: what was logged of each epoch up to this one, in order.
    """

    epoch: int
    state: TrainState
    history: list[dict[str, Any]]


class Checkpoints:
    """The checkpoints of one training phase in a folder, written in the background and atomically.

    Two are kept: the last, to resume from, and the one with the highest score, the first of equals. Each names the
    `fingerprint` of what it was trained with, and is not restored into anything else. Use as a context manager: leaving
    it waits for the last write.
    """

    def __init__(self, folder: pathlib.Path, fingerprint: str):
        self._folder, self._fingerprint = folder, fingerprint
        best = checkpoint_managers.BestN(get_metric_fn=_first_best, n=1)
        keep = checkpoint_managers.AnyPreservationPolicy([checkpoint_managers.LatestN(1), best])
        options = ocp.CheckpointManagerOptions(preservation_policy=keep, best_fn=_first_best)
        self._manager = ocp.CheckpointManager(folder.absolute(), options=options)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *error) -> None:
        self._manager.close()

    def save(self, epoch: int, state: TrainState, history: list[dict[str, Any]], score: float) -> None:
        """Writes the state after `epoch` epochs; `score` ranks it among the others, the highest is the best."""
        record = {"fingerprint": self._fingerprint, "history": history}
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), record=ocp.args.JsonSave(record))
        self._manager.save(epoch, args=items, metrics={"score": score, "epoch": epoch}, force=True)

    def last(self, template: TrainState) -> Checkpoint | None:
        """Restores the last state, with the structure and shapes of `template`; None where there is none."""
        return self._restore(self._manager.latest_step(), template)

    def at(self, epoch: int, template: TrainState) -> Checkpoint:
        """Restores the state after `epoch` epochs.

        Raises:
          ValueError: there is no such checkpoint, or it was trained with something else.
        """
        if epoch not in self._manager.all_steps():
            raise ValueError(f"{self._folder} has no checkpoint of epoch {epoch}, only {self._manager.all_steps()}")
        return self._restore(epoch, template)

    def _restore(self, epoch: int | None, template: TrainState) -> Checkpoint | None:
        if epoch is None:
            return None
        record = self._manager.restore(epoch, args=ocp.args.Composite(record=ocp.args.JsonRestore())).record
        if record["fingerprint"] != self._fingerprint:
            raise ValueError(
                f"the checkpoint {self._folder / str(epoch)} was trained with another config, vocabulary or data "
                f"(fingerprint {record['fingerprint'][:12]}, expected {self._fingerprint[:12]}); use another workdir"
            )
        shapes = jax.tree.map(ocp.utils.to_shape_dtype_struct, template)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(shapes))
        return Checkpoint(epoch, self._manager.restore(epoch, args=items).state, record["history"])


def _first_best(metrics: Mapping[str, Any]) -> tuple[float, int]:
    return metrics["score"], -int(metrics["epoch"])
