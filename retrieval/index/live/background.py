"""`BackgroundWork`: runs a task in one background thread while it is due, never twice at the same time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

LOG = logging.getLogger(__name__)


class BackgroundWork:
    """Runs a task in one daemon thread while it is due, and keeps the error that ended it for `wait`.

    The task and its condition are arguments of `start_if_due`, not attributes: an index that this object refers to
    would be in memory until garbage is collected.
    """

    def __init__(self, description: str):
        self._description = description  # how the log names a failed task
        self._lock = threading.Lock()
        self._worker: threading.Thread | None = None
        self._error: Exception | None = None

    def start_if_due(self, is_due: Callable[[], bool], task: Callable[[], None]) -> None:
        """Starts a thread that runs `task` again and again while `is_due()`, unless a thread runs already."""
        with self._lock:
            if self._worker is not None or not is_due():
                return
            worker = threading.Thread(target=self._run, args=(is_due, task), daemon=True)
            try:
                worker.start()
            except RuntimeError as error:  # the system has no thread left; the change of the caller is done
                self._fail(error)
            else:
                self._worker, self._error = worker, None

    def wait(self) -> None:
        """Waits for the thread, if one runs.

        Raises:
          Exception: the error that ended the last task.
        """
        worker = self._worker
        if worker is not None:
            worker.join()
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, is_due: Callable[[], bool], task: Callable[[], None]) -> None:
        """Runs the task in the thread until it is no longer due or fails."""
        try:
            while self._continues(is_due):
                task()
        except Exception as error:
            with self._lock:
                self._fail(error)

    def _continues(self, is_due: Callable[[], bool]) -> bool:
        """Tells whether the task is still due; if not, the next `start_if_due` starts a new thread.

        Both happen under one lock: otherwise a change between the last call of `is_due` and the end of the thread would
        find a thread that still runs, and start none.
        """
        with self._lock:
            if not is_due():
                self._worker = None
            return self._worker is not None

    def _fail(self, error: Exception) -> None:
        """Logs the error, keeps it for `wait`, and allows a new thread; the caller holds the lock."""
        LOG.error("%s, the next change tries again: %r", self._description, error)
        self._error, self._worker = error, None
