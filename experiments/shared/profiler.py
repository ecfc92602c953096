"""Records a profile of a few epochs, for XProf and TensorBoard."""

from __future__ import annotations

import pathlib
from typing import Any

import jax

from . import console

FIRST, NUM_EPOCHS = 2, 3  # the first epochs of a phase compile


class Profiler:
    """Records `NUM_EPOCHS` epochs of one phase into a folder, after the programs are compiled.

    A context manager around the training; at its end it stops the recording and prints the folder.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self._phase, self._epochs = "", 0
        self._is_recording, self._is_recorded = False, False

    def __enter__(self) -> Profiler:
        return self

    def __exit__(self, *error) -> None:
        self._stop()
        if self._is_recorded:
            console.say(f"profile: {self._folder}; to view it: pip install xprof && xprof --logdir={self._folder}")
        else:
            console.say(f"no profile: fewer than {FIRST + 1} epochs of a phase were trained")

    def after_epoch(self, history: list[dict[str, Any]]) -> None:
        """Starts or stops the recording; call it after each epoch with the records of its phase."""
        if history[-1]["phase"] != self._phase:
            self._phase, self._epochs = history[-1]["phase"], 0
            self._stop()
        self._epochs += 1
        if self._epochs == FIRST and not self._is_recorded:
            jax.profiler.start_trace(self._folder)
            self._is_recording = True
        elif self._epochs == FIRST + NUM_EPOCHS:
            self._stop()

    def _stop(self) -> None:
        if self._is_recording:
            jax.profiler.stop_trace()
            self._is_recording, self._is_recorded = False, True
