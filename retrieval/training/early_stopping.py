"""Which epoch is the best, and when no better one is to be expected."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def best_epoch(history: Sequence[float]) -> int:
    """Returns the index of the highest value, the first of equals; NaN never wins.

    >>> best_epoch([0.1, 0.3, float("nan"), 0.3])
    1
    """
    return int(np.argmax(np.nan_to_num(np.asarray(history, np.float64), nan=-np.inf)))


def should_stop(history: Sequence[float], patience: int) -> bool:
    """Tells whether the last `patience` values did not raise the best one before them; patience 0: never."""
    return 0 < patience < len(history) and len(history) - 1 - best_epoch(history) >= patience
