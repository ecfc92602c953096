"""Early stopping: the best epoch so far, and when to stop."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def best_epoch(history: Sequence[float]) -> int:
    """Returns the index of the highest value, the first of equal ones; NaN counts as the lowest.

    >>> best_epoch([0.1, 0.3, float("nan"), 0.3])
    1
    """
    return int(np.argmax(np.nan_to_num(np.asarray(history, np.float64), nan=-np.inf)))


def should_stop(history: Sequence[float], patience: int) -> bool:
    """Returns whether none of the last `patience` values exceeds the best value before them; with patience 0, False.

    >>> should_stop([0.3, 0.2, 0.3], patience=2), should_stop([0.3, 0.2, 0.4], patience=2)
    (True, False)
    """
    return 0 < patience < len(history) and len(history) - 1 - best_epoch(history) >= patience
